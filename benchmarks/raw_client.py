"""A client that costs next to nothing, so that what is measured is the server."""

import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

BARE = "/bare"  # where the yardstick is, benchmarks/baseline_app.py
END_OF_HEAD = b"\r\n\r\n"
TIMEOUT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, and how many seconds after the question."""

    status: int
    body: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """All the answers, and how long all of it took, in seconds."""

    answers: Sequence[Answer]
    seconds: float

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.answers) / self.seconds

    def percentile(self, share: float) -> float:
        """The time that this share of the questions took at most, in seconds."""
        times = sorted(answer.seconds for answer in self.answers)
        return times[min(len(times) - 1, int(share * len(times)))]


class Line:
    """One connection that is kept open, as a browser does."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        where = (str(parts.hostname), int(parts.port or 80))
        self._socket = socket.create_connection(where, TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, question: bytes) -> Answer:
        """Send a whole request and wait for the whole answer."""
        started = time.perf_counter()
        self._socket.sendall(question)
        head, _, body = self._read_head()
        length = _length(head)
        while len(body) < length:
            body += self._more()
        return Answer(int(head[9:12]), body, time.perf_counter() - started)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _read_head(self) -> tuple[bytes, bytes, bytes]:
        received = self._more()
        while END_OF_HEAD not in received:
            received += self._more()
        return received.partition(END_OF_HEAD)

    def _more(self) -> bytes:
        received = self._socket.recv(65_536)
        if not received:
            raise ConnectionError("the server hung up")
        return received


def question(
    method: str, path: str, token: str | None = None, *, headers: Sequence[str] = ()
) -> bytes:
    """A request as it goes over the line."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    lines += [f"Authorization: Bearer {token}"] if token else []
    lines += ["Content-Length: 0"] if method == "POST" else []
    return "\r\n".join([*lines, "", ""]).encode()


def ask_all(url: str, questions: Sequence[bytes], lines: int) -> Run:
    """Put all the questions over so many lines at once, each the next when it has its answer."""
    open_lines = [Line(url) for _ in range(lines)]
    start = threading.Barrier(lines + 1)

    def talk(number: int) -> list[Answer]:
        start.wait()
        return [open_lines[number].ask(q) for q in questions[number::lines]]

    with ThreadPoolExecutor(lines) as pool:
        talks = [pool.submit(talk, number) for number in range(lines)]
        start.wait()
        started = time.perf_counter()
        answers = [answer for talk in talks for answer in talk.result()]
        lasted = time.perf_counter() - started
    for line in open_lines:
        line.close()
    return Run(answers, lasted)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ConnectionError("an answer of unknown length")
