"""A development identity provider on its own port, whose Backend API can be made to fail."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from svix.webhooks import Webhook
from werkzeug.serving import make_server

from app import create_app
from core.config import Config
from dev.fake_clerk import ISSUER, PUBLISHABLE_KEY, DevIdentityProvider, DevSessions, DevUser
from web.services import EXTENSION, Services

NO_DATABASE = "postgresql://127.0.0.1:1/none"  # the provider needs no database
MAX_SILENCE_SECONDS = 10.0

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


@dataclass
class BackendFault:
    """The error response of the Backend API, or an event until which it does not respond.

    With `times`, it ends after so many responses.
    """

    status: str | None = None
    headers: list[tuple[str, str]] = field(default_factory=list)
    times: int | None = None
    blocked_until: threading.Event | None = None  # ends when it is set


@dataclass
class Clerk:
    """A running development identity provider.

    `calls` are the requested paths of its Backend API. `strange` are the responses for single
    users, by id.
    """

    url: str
    provider: DevIdentityProvider
    sessions: DevSessions
    calls: list[str] = field(default_factory=list)
    fault: BackendFault | None = None
    answers: dict[str, BackendFault] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, str]:
        """The settings of an app that uses this provider."""
        return {
            "CLERK_PUBLISHABLE_KEY": PUBLISHABLE_KEY,
            "CLERK_SECRET_KEY": self.provider.secret_key,
            "CLERK_FRONTEND_API_URL": self.url,
            "CLERK_API_URL": self.url,
            "CLERK_ISSUER": ISSUER,
            "CLERK_SIGN_IN_URL": f"{self.url}/sign-in",
            "CLERK_WEBHOOK_SECRET": self.provider.webhook_secret,
        }

    def token(self, user: DevUser) -> str:
        """A session token with Clerk's default claims, which do not contain the user's data."""
        self.provider.save_user(user)
        return self.provider.sign({"sub": user.clerk_id, "sid": "sess_1"}, 60)

    def bearer(self, user: DevUser) -> dict[str, str]:
        """The headers of an API client of this user."""
        return {"Authorization": f"Bearer {self.token(user)}", "Connection": "close"}


@contextmanager
def run_clerk(folder: Path) -> Iterator[Clerk]:
    """Run a provider that stores its data in the folder."""
    app = create_app(Config(instance_path=folder, database_url=NO_DATABASE))
    services: Services = app.extensions[EXTENSION]
    assert services.dev_provider is not None
    assert services.dev_sessions is not None
    clerk = Clerk("", services.dev_provider, services.dev_sessions)
    server = make_server("127.0.0.1", 0, _with_faults(app.wsgi_app, clerk), threaded=True)
    clerk.url = f"http://127.0.0.1:{server.server_port}/local-clerk"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield clerk
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def send_webhook(
    app_url: str, secret: str, body: str, message_id: str = "msg_1", at: datetime | None = None
) -> requests.Response:
    """Send a webhook message with a signature like Clerk's."""
    sent_at = at or datetime.now(UTC)
    headers = {
        "svix-id": message_id,
        "svix-timestamp": str(int(sent_at.timestamp())),
        "svix-signature": Webhook(secret).sign(message_id, sent_at, body),
        "Content-Type": "application/json",
    }
    return requests.post(f"{app_url}/webhooks/clerk", data=body, headers=headers, timeout=10)


def _with_faults(app: Wsgi, clerk: Clerk) -> Wsgi:
    """The app of the provider, with the current fault before its Backend API."""

    def serve(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path: str = environ["PATH_INFO"]
        if "/v1/users" in path:
            clerk.calls.append(path)
            trouble = clerk.fault or clerk.answers.get(path.rpartition("/")[2])
            if trouble is not None and trouble.blocked_until is not None:
                trouble.blocked_until.wait(MAX_SILENCE_SECONDS)
            if trouble is not None and trouble.times is not None:
                trouble.times -= 1
                trouble = None if trouble.times < 0 else trouble
            if trouble is not None and trouble.status is not None:
                start_response(trouble.status, trouble.headers)
                return [b"{}"]
        return app(environ, start_response)

    return serve
