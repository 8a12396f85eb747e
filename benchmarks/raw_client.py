"""An HTTP client that costs about 0.02 ms a request, so that the measured time is the server's.

One thread waits for all connections. A connection ends after some requests, because gunicorn keeps
a connection in one process: with many short ones each run is served by all processes.
"""

import select
import socket
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

BASELINE_PATH = "/bare"  # of the view in benchmarks/baseline_app.py
FLOOR_PATH = "/floor"  # of the view in benchmarks/floor_app.py
END_OF_HEAD = b"\r\n\r\n"
LENGTH = b"content-length:"
TIMEOUT_SECONDS = 30
REQUESTS_PER_CONNECTION = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body of an answer, and the seconds since the request."""

    status: int
    body: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """All answers of a run, and its duration in seconds."""

    answers: Sequence[Answer]
    seconds: float

    @property
    def per_second(self) -> float:
        """Return the answers per second."""
        return len(self.answers) / self.seconds

    def percentile(self, share: float) -> float:
        """Return the seconds that this share of the requests took at most."""
        times = sorted(answer.seconds for answer in self.answers)
        return times[min(len(times) - 1, int(share * len(times)))]


class _Client:
    """One client that sends its requests one after the other."""

    def __init__(self, url: str, requests: Iterable[bytes]) -> None:
        parts = urlsplit(url)
        self._address = (str(parts.hostname), int(parts.port or 80))
        self._requests = deque(requests)
        self._received = b""
        self._sent_at = 0.0
        self.connect()

    def connect(self) -> None:
        """Open a new connection."""
        self.socket = socket.create_connection(self._address, TIMEOUT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._left = REQUESTS_PER_CONNECTION

    @property
    def is_used_up(self) -> bool:
        """Whether the connection has served its number of requests."""
        return self._left == 0

    @property
    def is_done(self) -> bool:
        """Whether there is no other request to send."""
        return not self._requests

    def send_next(self) -> None:
        """Send the next request."""
        self._left -= 1
        self._sent_at = time.perf_counter()
        self.socket.sendall(self._requests.popleft())

    def receive(self) -> Answer | None:
        """Read what has arrived; returns the answer if it is whole."""
        chunk = self.socket.recv(65_536)
        if not chunk:
            raise ConnectionError("the server closed the connection")
        self._received += chunk
        head, end, body = self._received.partition(END_OF_HEAD)
        if not end or len(body) < _length(head):
            return None
        self._received = b""
        return Answer(int(head[9:12]), body, time.perf_counter() - self._sent_at)


def request_bytes(
    method: str, path: str, token: str | None = None, *, headers: Sequence[str] = ()
) -> bytes:
    """Return the bytes of an HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    lines += [f"Authorization: Bearer {token}"] if token else []
    lines += ["Content-Length: 0"] if method == "POST" else []
    return "\r\n".join([*lines, "", ""]).encode()


def send_all(url: str, requests: Sequence[bytes], concurrency: int) -> Run:
    """Send the requests from `concurrency` clients, one after the other by each."""
    number = min(concurrency, len(requests))
    clients = [_Client(url, requests[n::number]) for n in range(number)]
    waiting = {client.socket.fileno(): client for client in clients}
    answers: list[Answer] = []
    with select.epoll() as poll:
        for descriptor in waiting:
            poll.register(descriptor, select.EPOLLIN)
        started = time.perf_counter()
        for client in clients:
            client.send_next()
        while waiting:
            for descriptor, _ in poll.poll(TIMEOUT_SECONDS) or [(-1, 0)]:
                if descriptor < 0:
                    raise TimeoutError("no answer")
                client = waiting[descriptor]
                answer = client.receive()
                if answer is None:
                    continue
                answers.append(answer)
                if client.is_done or client.is_used_up:
                    del waiting[descriptor]
                    client.socket.close()  # which also ends the registration
                    if client.is_done:
                        continue
                    client.connect()
                    waiting[client.socket.fileno()] = client
                    poll.register(client.socket.fileno(), select.EPOLLIN)
                client.send_next()
        return Run(answers, time.perf_counter() - started)


def _length(head: bytes) -> int:
    lowered = head.lower()
    begin = lowered.find(LENGTH)
    if begin < 0:
        raise ConnectionError("an answer of unknown length")
    return int(lowered[begin + len(LENGTH) :].split(b"\r\n", 1)[0])
