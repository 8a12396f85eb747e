"""A bounded HTTP request has a time limit and a size limit, whatever the server sends."""

import gzip
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Event, Thread

import httpcore
import pytest

from core.bounded_http import BoundedClient, NotDecodableError, Response, TooLargeError
from tests.support.stopwatch import stopwatch

HEAD = b"HTTP/1.1 200 OK\r\n"
SECONDS = 0.4
DROPS: dict[str, tuple[bytes, bytes]] = {
    "status line": (b"", b"HTTP"),
    "header names": (HEAD, b"X"),
    "headers": (HEAD, b"X-A: b\r\n"),
    "body": (HEAD + b"Content-Length: 9999\r\n\r\n", b"x"),
    "body without length": (HEAD + b"\r\n", b"x"),
    "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "informational answers": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "nothing": (b"", b""),
}

Serve = Callable[[bytes, bytes], str]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Return a function that serves the first bytes at once and then repeats the others slowly."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    ended, listener = Event(), socket.create_server(("127.0.0.1", 0))
    threads: list[Thread] = []

    def send(connection: socket.socket, head: bytes, drop: bytes) -> None:
        with connection, suppress(OSError):
            connection.recv(65_536)
            connection.sendall(head)
            while not ended.wait(0.02):
                connection.sendall(drop)

    def accept(head: bytes, drop: bytes) -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            send(connection, head, drop)

    def start(head: bytes, drop: bytes) -> str:
        threads.append(Thread(target=accept, args=(head, drop)))
        threads[-1].start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    ended.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for thread in threads:
        thread.join()


def http_response(body: bytes, *headers: bytes) -> bytes:
    lines = [*headers, b"Content-Length: %d" % len(body)]
    return HEAD + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def fetch(url: str, most_bytes: int = 1000) -> Response:
    return BoundedClient(url).request("GET", "/", seconds=SECONDS, max_bytes=most_bytes)


@pytest.mark.parametrize("where", DROPS)
def test_slow_response_ends_at_the_time_limit(serve: Serve, where: str) -> None:
    url = serve(*DROPS[where])
    errors = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)

    with stopwatch() as watch, pytest.raises(errors):
        fetch(url)

    assert watch.seconds < SECONDS + 1.0


def test_too_large_body_is_not_read_to_its_end(serve: Serve) -> None:
    url = serve(HEAD + b"\r\n", b"x" * 500)

    with pytest.raises(TooLargeError):
        fetch(url)


def test_compressed_body_is_read(serve: Serve) -> None:
    url = serve(http_response(gzip.compress(b"{}"), b"Content-Encoding: gzip"), b"")

    assert fetch(url).body == b"{}"


def test_decompression_bomb_is_too_large(serve: Serve) -> None:
    bomb = gzip.compress(b"0" * 900_000)
    url = serve(http_response(bomb, b"Content-Encoding: gzip"), b"")

    with pytest.raises(TooLargeError):
        fetch(url, most_bytes=100_000)


@pytest.mark.parametrize(("encoding", "body"), [(b"br", b"{}"), (b"gzip", b"no gzip")])
def test_body_that_cannot_be_decompressed_is_refused(
    serve: Serve, encoding: bytes, body: bytes
) -> None:
    url = serve(http_response(body, b"Content-Encoding: " + encoding), b"")

    with pytest.raises(NotDecodableError):
        fetch(url)


def test_response_is_read_as_a_whole(serve: Serve) -> None:
    url = serve(http_response(b"{}", b"X-Name: value"), b"")

    answer = fetch(url)

    assert (answer.status, answer.headers["x-name"], answer.body) == (200, "value", b"{}")
