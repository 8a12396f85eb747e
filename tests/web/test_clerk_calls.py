"""Calls to Clerk for one request: rate limited before, one at most, and with little waiting."""

import json
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from flask import Flask
from flask.testing import FlaskClient
from jwt.algorithms import RSAAlgorithm

from benchmarks.servers import eventually
from dev.fake_clerk import clerk_user
from tests.support.apps import create_app_on
from tests.support.html_page import SAME_ORIGIN
from tests.support.stopwatch import stopwatch
from tests.support.users import BOB

ISSUER = "https://clerk.example.com"
LIVE = f"pk_live_{b64encode(b'clerk.example.com$').decode()}"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PAGE = {"Accept": "text/html", "Sec-Fetch-Dest": "document"}
PER_MINUTE = 30
PUBLIC = {**RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "ins_1", "use": "sig"}


class Clerk(ThreadingHTTPServer):
    """Records its requests and sends responses slowly for paths that start with one of `slow`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.calls: list[str] = []
        self.slow: tuple[str, ...] = ()
        self.ended = threading.Event()
        self.directives: list[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def calls_to(self, beginning: str) -> list[str]:
        return [call for call in self.calls if call.startswith(beginning)]


class Handler(BaseHTTPRequestHandler):
    server: Clerk

    def do_GET(self) -> None:
        self.server.calls.append(self.path)
        status, document = self.response_to_path()
        body = json.dumps(document).encode()
        self.send_response(status)
        self.end_headers()
        with suppress(OSError):
            if self.path.startswith(self.server.slow or ("-",)):
                while not self.server.ended.wait(0.05):
                    self.wfile.write(b" ")
            self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def response_to_path(self) -> tuple[int, Any]:
        if self.path == "/jwks.json":
            return 200, {"keys": [PUBLIC]}
        if self.path.startswith("/v1/users/"):
            return 200, clerk_user(BOB)
        if self.path.startswith("/v1/sessions/"):
            return 200, {"object": "session"}
        if self.server.directives is not None:
            return 200, {"directives": self.server.directives}
        return 404, {"errors": [{"code": "resource_not_found"}]}

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def clerk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clerk]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Clerk() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.ended.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def limits() -> dict[str, int]:
    return {}


@pytest.fixture
def app(
    tmp_path: Path, copy_database: Callable[[str], str], clerk: Clerk, limits: dict[str, int]
) -> Iterator[Flask]:
    """An app with a production instance of Clerk."""
    settings = {
        "clerk_publishable_key": LIVE,
        "clerk_secret_key": "sk_live_x",
        "clerk_api_url": clerk.url,
        "clerk_jwks_url": f"{clerk.url}/jwks.json",
        **limits,
    }
    with create_app_on(tmp_path, copy_database(f"calls_{tmp_path.name}"), **settings) as app:
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client(use_cookies=False)  # the tests set the header


def token(session_id: str = "sess_1", *, kid: str = "ins_1", age: int = 0) -> str:
    now = int(time.time()) - age
    claims = {"sub": BOB.clerk_id, "sid": session_id, "iss": ISSUER, "iat": now, "exp": now + 60}
    return jwt.encode(claims, KEY, algorithm="RS256", headers={"kid": kid})


def bearer(**options: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(**options)}"}


def visit(client: FlaskClient, nonce: str) -> int:
    """Request a page with a nonce as an anonymous browser and return the status."""
    headers = {**PAGE, "Cookie": f"__clerk_handshake_nonce={nonce}"}
    return client.get("/dashboard", headers=headers).status_code


@pytest.mark.parametrize("limits", [{"rate_limit_per_minute": PER_MINUTE}])
def test_refused_request_causes_no_call(client: FlaskClient, clerk: Clerk) -> None:
    statuses = [visit(client, f"nonce_{number}") for number in range(4 * PER_MINUTE)]

    served = len(statuses) - statuses.count(429)
    assert served < 2 * PER_MINUTE
    assert len(clerk.calls) <= served


def test_nonces_use_only_a_share_of_the_budget(client: FlaskClient, clerk: Clerk) -> None:
    started_at = time.monotonic()

    statuses = [visit(client, f"nonce_{number}") for number in range(300)]
    nonces = len(clerk.calls)
    response = client.get("/api/mentorados/me", headers=bearer())

    assert 429 not in statuses
    assert nonces <= 50 + 5 * (time.monotonic() - started_at) + 1
    assert (response.json or {})["nome_completo"] == BOB.name


def test_refused_nonce_is_sent_only_once(client: FlaskClient, clerk: Clerk) -> None:
    for _ in range(20):
        visit(client, "made_up")

    assert len(clerk.calls_to("/v1/clients")) == 1


# Werkzeug reads a quoted value, and the octal numbers in it.
@pytest.mark.parametrize(
    "nonce", ["a/b", "x" * 300, '"a b"', "a%00", "..%2f..", '"\\303\\241"', "a?b", "{}"]
)
def test_malformed_nonce_causes_no_call(client: FlaskClient, clerk: Clerk, nonce: str) -> None:
    visit(client, nonce)

    assert clerk.calls_to("/v1/clients") == []


def test_valid_nonce_signs_in_at_once(client: FlaskClient, clerk: Clerk) -> None:
    clerk.directives = [f"__session={token()}; Path=/", "__client_uat=1; Path=/"]

    assert visit(client, "good") == 200


def test_slow_nonces_do_not_delay_a_sign_in(app: Flask, client: FlaskClient, clerk: Clerk) -> None:
    clerk.slow = ("/v1/clients",)

    with ThreadPoolExecutor(8) as pool:
        visits = [
            pool.submit(visit, app.test_client(use_cookies=False), f"nonce_{n}") for n in range(8)
        ]
        assert eventually(lambda: len(clerk.calls_to("/v1/clients")) == 2)
        response = client.get("/api/mentorados/me", headers=bearer())

    assert (response.json or {})["nome_completo"] == BOB.name
    assert {call.result() for call in visits} == {307}  # they ask Clerk for a signed answer


@pytest.mark.parametrize("limits", [{"rate_limit_per_minute": PER_MINUTE}])
def test_unknown_key_of_a_refused_request_causes_no_call(client: FlaskClient, clerk: Clerk) -> None:
    client.get("/api/auth/me", headers=bearer())
    calls_before = list(clerk.calls)
    for number in range(2 * PER_MINUTE):
        client.get("/api/auth/me", headers={"Authorization": f"Bearer guess{number}"})

    response = client.get("/api/auth/me", headers=bearer(kid="forged"))

    assert (response.status_code, clerk.calls) == (429, calls_before)


@pytest.mark.parametrize("limits", [{"rate_limit_per_minute": PER_MINUTE}])
def test_many_requests_before_the_first_key_do_not_stop_users(client: FlaskClient) -> None:
    for _ in range(2 * PER_MINUTE):
        client.get("/api/auth/me")

    assert client.get("/api/auth/me", headers=bearer()).status_code == 200


def sign_out(client: FlaskClient, cookies: dict[str, str]) -> int:
    header = "; ".join(f"{name}={value}" for name, value in cookies.items())
    return client.post("/logout", headers={**SAME_ORIGIN, "Cookie": header}).status_code


def test_logout_with_forty_cookies_ends_one_session(client: FlaskClient, clerk: Clerk) -> None:
    old_cookies = {f"__session_{n:08d}": token(f"sess_{n}", age=3600) for n in range(40)}

    status = sign_out(client, {"__session": token("sess_own"), "__client_uat": "1", **old_cookies})

    assert (status, clerk.calls_to("/v1/sessions")) == (303, ["/v1/sessions/sess_own/revoke"])


def test_logout_with_old_cookies_ends_at_most_one_session(
    client: FlaskClient, clerk: Clerk
) -> None:
    sign_out(client, {f"__session_{n:08d}": token(f"sess_{n}", age=3600) for n in range(40)})

    assert len(clerk.calls_to("/v1/sessions")) <= 1


def test_logout_ends_an_expired_session(client: FlaskClient, clerk: Clerk) -> None:
    sign_out(client, {"__session": token("sess_own", age=3600), "__client_uat": "1"})

    assert clerk.calls_to("/v1/sessions") == ["/v1/sessions/sess_own/revoke"]


def test_repeated_logout_ends_the_session_once(client: FlaskClient, clerk: Clerk) -> None:
    for _ in range(10):
        sign_out(client, {"__session": token("sess_own")})

    assert len(clerk.calls_to("/v1/sessions")) == 1


def test_logout_does_not_wait_for_a_slow_provider(client: FlaskClient, clerk: Clerk) -> None:
    clerk.slow = ("/v1/sessions",)
    client.get("/api/auth/me", headers=bearer())

    with stopwatch() as watch:
        status = sign_out(client, {"__session": token("sess_own")})

    assert (status, watch.seconds < 2.0) == (303, True)


def test_slow_keys_cause_a_coded_error_in_time(client: FlaskClient, clerk: Clerk) -> None:
    clerk.slow = ("/jwks.json",)

    with stopwatch() as watch:
        response = client.get("/api/auth/me", headers=bearer())

    assert (response.status_code, (response.json or {})["code"]) == (
        503,
        "provisioning_unavailable",
    )
    assert watch.seconds < 2.0


def test_forged_tokens_do_not_delay_users_while_keys_are_slow(
    app: Flask, client: FlaskClient, clerk: Clerk
) -> None:
    client.get("/api/auth/me", headers=bearer())
    clerk.slow = ("/jwks.json",)

    with ThreadPoolExecutor(8) as pool, stopwatch() as watch:
        forged_calls = [
            pool.submit(app.test_client().get, "/api/auth/me", headers=bearer(kid=f"forged_{n}"))
            for n in range(8)
        ]
        response = client.get("/api/auth/me", headers=bearer())
        waited = watch.seconds
        statuses = {call.result().status_code for call in forged_calls}

    assert (response.status_code, waited < 2.0) == (200, True)
    assert (statuses, watch.seconds < 2.0) == ({401}, True)


def test_slow_user_document_does_not_stop_a_first_login(client: FlaskClient, clerk: Clerk) -> None:
    clerk.slow = ("/v1/users",)

    with stopwatch() as watch:
        response = client.get("/api/mentorados/me", headers=bearer())

    assert (response.status_code, watch.seconds < 2.0) == (200, True)
