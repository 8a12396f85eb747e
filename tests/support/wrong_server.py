"""A server with wrong responses for the load test; each kind of fault has a path prefix."""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Lock, Thread
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the server; `is_first` is the first one of its user."""

    name: str
    profile: int
    path: str
    is_first: bool


@dataclass(frozen=True, slots=True)
class Response:
    """A response of the server."""

    status: int
    document: dict[str, Any]

    @property
    def media_type(self) -> str:
        """The content type of the response."""
        return "application/json" if self.status == 200 else "application/problem+json"


def truth(request: Request, **changes: Any) -> Response:
    """The correct response, with these changes."""
    profile = {"id": request.profile, "nome_completo": request.name}
    body = {"status": "ready", "totalRevenue": 0, "created": request.is_first}
    return Response(200, {**body, **profile, "mentorado": profile, **changes})


def mixed_up(request: Request) -> Response:
    """Wrong profiles in responses that look correct one by one."""
    shared = {"id": 1, "mentorado": {"id": 1}}
    return truth(request, **shared, created=True, status="provisioning_unavailable")


def wrong(request: Request) -> Response:
    """The page of another user, an error without a code, and one with a code."""
    match request.path:
        case "/dashboard":
            return truth(request, nome_completo="Bia", mentorado=None)
        case "/api/mentorados/me":
            return Response(503, {"detail": "SQLSTATE 40001"})
        case "/api/auth/ensure":
            return Response(500, {"code": "internal"})
    return truth(request)


def later(request: Request) -> Response:
    """An error first, then the correct response."""
    return Response(503, {"code": "database_unavailable"}) if request.is_first else truth(request)


FAULTS: dict[str, Callable[[Request], Response]] = {
    function.__name__: function for function in (truth, mixed_up, wrong, later)
}


@contextmanager
def run_wrong_server() -> Iterator[str]:
    """Run the server and return its URL; each kind of fault has its own prefix."""
    server = _Server(("127.0.0.1", 0), _Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # all devices of a user connect at once


class _Handler(BaseHTTPRequestHandler):
    lock = Lock()
    numbers = count(1)
    profiles: ClassVar[dict[str, int]] = {}

    def do_GET(self) -> None:
        fault, path = self.path[1:].split("/", 1)
        response = FAULTS[fault](self._request_of(f"/{path}"))
        body = json.dumps(response.document).encode()
        self.send_response(response.status)
        self.send_header("Content-Type", response.media_type)
        self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 # the name is the library's

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def _request_of(self, path: str) -> Request:
        claims = self.headers["Authorization"].split(".")[1]
        name = json.loads(base64.urlsafe_b64decode(f"{claims}=="))["name"]
        with self.lock:
            is_first = name not in self.profiles
            profile = self.profiles.setdefault(name, next(self.numbers))
        return Request(name, profile, path, is_first)
