"""A server that is not our app: it lies to the load test, each lie under a path of its own."""

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
class Question:
    """Who asks for what; `is_first` of all that they ask."""

    name: str
    profile: int
    path: str
    is_first: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said."""

    status: int
    document: dict[str, Any]

    @property
    def media_type(self) -> str:
        """What it is called by."""
        return "application/json" if self.status == 200 else "application/problem+json"


def truth(question: Question, **otherwise: Any) -> Answer:
    """What our app would say to whatever is asked, or something else in its place."""
    profile = {"id": question.profile, "nome_completo": question.name}
    told = {"status": "ready", "totalRevenue": 0, "created": question.is_first}
    return Answer(200, {**told, **profile, "mentorado": profile, **otherwise})


def mixed_up(question: Question) -> Answer:
    """All that can be wrong with profiles while each answer looks right."""
    shared = {"id": 1, "mentorado": {"id": 1}}
    return truth(question, **shared, created=True, status="provisioning_unavailable")


def wrong(question: Question) -> Answer:
    """Another person's page, an error without a code, and one with a code."""
    match question.path:
        case "/dashboard":
            return truth(question, nome_completo="Bia", mentorado=None)
        case "/api/mentorados/me":
            return Answer(503, {"detail": "SQLSTATE 40001"})
        case "/api/auth/ensure":
            return Answer(500, {"code": "internal"})
    return truth(question)


def later(question: Question) -> Answer:
    """The truth, at the second try."""
    return Answer(503, {"code": "database_unavailable"}) if question.is_first else truth(question)


LIES: dict[str, Callable[[Question], Answer]] = {
    function.__name__: function for function in (truth, mixed_up, wrong, later)
}


@contextmanager
def lying() -> Iterator[str]:
    """The address under which each lie has its own prefix; its threads end with it."""
    server = _Server(("127.0.0.1", 0), _Liar)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # all devices of somebody come at once


class _Liar(BaseHTTPRequestHandler):
    lock = Lock()
    numbers = count(1)
    profiles: ClassVar[dict[str, int]] = {}

    def do_GET(self) -> None:
        lie, path = self.path[1:].split("/", 1)
        answer = LIES[lie](self._question(f"/{path}"))
        body = json.dumps(answer.document).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.media_type)
        self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 # the library calls it by that name

    def log_message(self, *_: object) -> None:
        """Nobody would read it."""

    def _question(self, path: str) -> Question:
        claims = self.headers["Authorization"].split(".")[1]
        name = json.loads(base64.urlsafe_b64decode(f"{claims}=="))["name"]
        with self.lock:
            is_first = name not in self.profiles
            profile = self.profiles.setdefault(name, next(self.numbers))
        return Question(name, profile, path, is_first)
