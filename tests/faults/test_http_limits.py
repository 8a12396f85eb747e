"""Limits of the HTTP server: bytes, headers, request framing and slow clients."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
import requests

from benchmarks.servers import AppServer, run_app
from tests.support.raw_http import send_raw
from tests.support.stopwatch import stopwatch

PARTIAL_HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127."
PARTIAL_BODY = (
    b"POST /local-clerk/sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\nnome="
)
NEXT_REQUEST = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
AMBIGUOUS_FRAMINGS = (
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
    b"Content-Length: 0, 5\r\n\r\n",
    b"Content-Length: +0\r\n\r\n",
    b"Content-Length: 0\n\r\n",
    b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """The app with default settings: one process, eight threads."""
    with run_app(tmp_path_factory.mktemp("limits")) as app:
        yield app


def address_of(app: AppServer) -> tuple[str, int]:
    parts = urlsplit(app.url)
    return str(parts.hostname), int(parts.port or 0)


def send(app: AppServer, sent: bytes) -> bytes:
    return send_raw(address_of(app), sent, is_reset=False)


def request_with_line(length: int) -> bytes:
    """Return a request whose first line has this length."""
    return b"GET /".ljust(length - 9, b"a") + b" HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(("length", "status"), [(8_190, b"404"), (8_191, b"414")])
def test_request_line_has_room_for_a_clerk_handshake(
    server: AppServer, length: int, status: bytes
) -> None:
    assert send(server, request_with_line(length)).split()[1] == status


@pytest.mark.parametrize(("number", "status"), [(100, 200), (101, 431)])
def test_request_has_at_most_a_hundred_headers(server: AppServer, number: int, status: int) -> None:
    standard = 4  # Host and the headers that the client adds
    headers = {f"X-{i}": "a" for i in range(number - standard - 1)}

    answer = requests.get(
        f"{server.url}/healthz", headers={**headers, "Connection": "close"}, timeout=5
    )

    assert answer.status_code == status


@pytest.mark.parametrize(("length", "status"), [(16_384, 401), (32_000, 401), (33_000, 431)])
def test_oversized_token_is_refused_with_a_code_up_to_the_header_limit(
    server: AppServer, length: int, status: int
) -> None:
    headers = {"Authorization": f"Bearer {'a' * length}"}

    answer = requests.get(f"{server.url}/api/auth/me", headers=headers, timeout=5)

    assert answer.status_code == status


@pytest.mark.parametrize("framing", AMBIGUOUS_FRAMINGS)
def test_request_with_ambiguous_framing_closes_the_connection(
    server: AppServer, framing: bytes
) -> None:
    head = b"POST /api/auth/ensure HTTP/1.1\r\nHost: 127.0.0.1\r\n"

    received = send(server, head + framing + NEXT_REQUEST)

    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1 ") == 1


def test_error_of_the_http_server_reveals_nothing_about_it(server: AppServer) -> None:
    received = send(server, b"GET /<script> x HTTP/1.1\r\n\r\n")

    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"<script>" not in received
    assert b"gunicorn" not in received.lower()


@pytest.mark.parametrize("sent", [b"", PARTIAL_HEAD, PARTIAL_BODY], ids=["idle", "head", "body"])
def test_eight_slow_clients_block_other_requests_only_briefly(
    server: AppServer, sent: bytes
) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(address_of(server))) for _ in range(8)]
        for client in slow:
            client.sendall(sent)

        with stopwatch() as watch:
            answer = requests.get(f"{server.url}/healthz", timeout=14)

        assert answer.status_code == 200
        assert watch.seconds < 1 or sent
