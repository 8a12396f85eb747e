"""An HTTP client over raw sockets, cheap enough that the measured time is the server's."""

import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

BASELINE_PATH = "/bare"  # of the view in benchmarks/baseline_app.py
END_OF_HEAD = b"\r\n\r\n"
TIMEOUT_SECONDS = 30


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


class Connection:
    """One keep-alive connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        address = (str(parts.hostname), int(parts.port or 80))
        self._socket = socket.create_connection(address, TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, request: bytes) -> Answer:
        """Send a request and read the whole answer."""
        started = time.perf_counter()
        self._socket.sendall(request)
        head, _, body = self._read_head()
        length = _length(head)
        while len(body) < length:
            body += self._receive()
        return Answer(int(head[9:12]), body, time.perf_counter() - started)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _read_head(self) -> tuple[bytes, bytes, bytes]:
        received = self._receive()
        while END_OF_HEAD not in received:
            received += self._receive()
        return received.partition(END_OF_HEAD)

    def _receive(self) -> bytes:
        received = self._socket.recv(65_536)
        if not received:
            raise ConnectionError("the server closed the connection")
        return received


def request_bytes(
    method: str, path: str, token: str | None = None, *, headers: Sequence[str] = ()
) -> bytes:
    """Return the bytes of an HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    lines += [f"Authorization: Bearer {token}"] if token else []
    lines += ["Content-Length: 0"] if method == "POST" else []
    return "\r\n".join([*lines, "", ""]).encode()


def send_all(url: str, requests: Sequence[bytes], concurrency: int) -> Run:
    """Send the requests over `concurrency` connections, one after the other on each."""
    connections = [Connection(url) for _ in range(concurrency)]
    start = threading.Barrier(concurrency + 1)

    def send_share(number: int) -> list[Answer]:
        start.wait()
        return [connections[number].send(request) for request in requests[number::concurrency]]

    with ThreadPoolExecutor(concurrency) as pool:
        shares = [pool.submit(send_share, number) for number in range(concurrency)]
        start.wait()
        started = time.perf_counter()
        answers = [answer for share in shares for answer in share.result()]
        seconds = time.perf_counter() - started
    for connection in connections:
        connection.close()
    return Run(answers, seconds)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ConnectionError("an answer of unknown length")
