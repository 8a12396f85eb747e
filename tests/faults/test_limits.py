"""What one client may ask of the server: so many bytes, so many headers, so much patience."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
import requests

from dev.servers import Served, served
from tests.support.raw_http import exchange

HALF_A_HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127."
HALF_A_BODY = (
    b"POST /local-clerk/sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\nnome="
)
SECOND = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
DISAGREEING = (
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
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app as it is served by default: one process, eight threads."""
    with served(tmp_path_factory.mktemp("limits")) as app:
        yield app


def place(app: Served) -> tuple[str, int]:
    parts = urlsplit(app.url)
    return str(parts.hostname), int(parts.port or 0)


def send(app: Served, sent: bytes) -> bytes:
    return exchange(place(app), sent, hurried=False)


def lined(length: int) -> bytes:
    """A request whose first line is that long."""
    return b"GET /".ljust(length - 9, b"a") + b" HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(("length", "status"), [(8_190, b"404"), (8_191, b"414")])
def test_address_has_room_for_an_answer_of_clerk_s(
    server: Served, length: int, status: bytes
) -> None:
    assert send(server, lined(length)).split()[1] == status


@pytest.mark.parametrize(("number", "status"), [(100, 200), (101, 431)])
def test_request_has_a_hundred_headers_at_most(server: Served, number: int, status: int) -> None:
    usual = 4  # Host and what the client adds by itself
    headers = {f"X-{i}": "a" for i in range(number - usual - 1)}

    answer = requests.get(
        f"{server.url}/healthz", headers={**headers, "Connection": "close"}, timeout=5
    )

    assert answer.status_code == status


@pytest.mark.parametrize(("length", "status"), [(16_384, 401), (32_000, 401), (33_000, 431)])
def test_token_that_is_too_long_is_refused_in_words_as_far_as_possible(
    server: Served, length: int, status: int
) -> None:
    headers = {"Authorization": f"Bearer {'a' * length}"}

    answer = requests.get(f"{server.url}/api/auth/me", headers=headers, timeout=5)

    assert answer.status_code == status


@pytest.mark.parametrize("framing", DISAGREEING)
def test_request_whose_end_is_in_doubt_is_refused_with_all_that_follows(
    server: Served, framing: bytes
) -> None:
    head = b"POST /api/auth/ensure HTTP/1.1\r\nHost: 127.0.0.1\r\n"

    heard = send(server, head + framing + SECOND)

    assert heard.startswith(b"HTTP/1.1 400 ")
    assert heard.count(b"HTTP/1.1 ") == 1


def test_refusal_by_the_server_itself_tells_nothing_about_it(server: Served) -> None:
    heard = send(server, b"GET /<script> x HTTP/1.1\r\n\r\n")

    assert heard.startswith(b"HTTP/1.1 400 ")
    assert b"<script>" not in heard
    assert b"gunicorn" not in heard.lower()


@pytest.mark.parametrize("sent", [b"", HALF_A_HEAD, HALF_A_BODY], ids=["idle", "head", "body"])
def test_eight_who_never_finish_keep_nobody_out_for_long(server: Served, sent: bytes) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(place(server))) for _ in range(8)]
        for line in slow:
            line.sendall(sent)

        answer = requests.get(f"{server.url}/healthz", timeout=14)

        assert answer.status_code == 200
        assert answer.elapsed.total_seconds() < 1 or sent
