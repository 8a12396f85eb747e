"""Mutators that break the framing of a request, and sending of raw bytes."""

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from random import Random

from tests.support.request_samples import RawRequest

RawMutator = Callable[[Random, RawRequest], bytes]

TIMEOUT_SECONDS = 20
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # closing the socket resets the connection
# fmt: off
METHODS = (
    "TRACE", "CONNECT", "PROPFIND", "get", "PoSt", "M" * 2_000, "A", "GET\t", "\x00GET", "G\xc9T",
    "OPTIONS", "HEAD", "PATCH", "DELETE", "PURGE", "M-SEARCH", "BREW", "LOCK", "", "GET;x",
)
TARGETS = (
    "*", "", "/\xff\xfe", "/%ff%fe", "/%00", "/%c0%af", "//", "//[", "/a" * 5_000,
    "/" + "a" * 3_900, "http://evil.example/", "http://[/", "https://127.0.0.1/dashboard",
    "evil.example:443", "/#a", "/%", "/%zz", "/..%2f..%2fetc/passwd", "/\\", "/dashboard;a=b",
    "/\u0080", "/api/\xe9", "ftp://x/", "/api//", "/api/%2e%2e/admin", "/%0d%0aX: y",
    "/dashboard%00", "?", "/?" + "%" * 3_000, "://",
)
HOSTS = (
    "", "[", "[::1", "a b", "evil.example", "127.0.0.1:99999", ":::", "a" * 5_000, "\xff", "é.br",
    "127.0.0.1:x", "127.0.0.1, b", "user@127.0.0.1", "127.0.0.1/x", "-", "..", "localhost:0",
    "%00",
)
# fmt: on
FRAMINGS = (
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"Content-Length: 2\r\nContent-Length: 5\r\n\r\nhello",
    b"Content-Length: +5\r\n\r\nhello",
    b"Content-Length: -1\r\n\r\n",
    b"Content-Length: 0x5\r\n\r\nhello",
    b"Content-Length: \xb2\r\n\r\nhello",
    b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\nhello",
    b"Content-Length: " + b"9" * 300 + b"\r\n\r\nhello",
    b"Content-Length: 5, 5\r\n\r\nhello",
    b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n-1\r\nhello\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloworld\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello",
    b"Transfer-Encoding: chunked\r\n\r\n5;a=\x00\r\nhello\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 500 + b"0\r\nA: b\r\nHost: c\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n" + b"a" * 40_000,
    b"Transfer-Encoding: chunked\r\n\r\n10000\r\n" + b"a" * 65_536 + b"\r\n1\r\nb\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
    b"Content-Length: 500\r\n\r\nhello",
    b"X: a\r\n b\r\n\r\n",
    b"X: a\r\n\tTransfer-Encoding: chunked\r\n\r\n",
    b"X: a\nContent-Length: 5\r\n\r\nhello",
    b"X: \x00\r\n\r\n",
    b"X\xff: a\r\n\r\n",
    b"X: \xff\xfe\r\n\r\n",
    b": a\r\n\r\n",
    b"X Y: a\r\n\r\n",
    b"X\r\n\r\n",
    b"X: " + b"a" * 40_000 + b"\r\n\r\n",
    b"Cookie: __session=" + b"a" * 1_000_000 + b"\r\n\r\n",
    b"".join(b"X%d: a\r\n" % number for number in range(150)) + b"\r\n",
    b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    b"Expect: everything\r\n\r\n",
    b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: a\r\n\r\n",
)
INVALID_STARTS = (
    b"GET /dashboard\r\n",
    b"GET /dashboard HTTP/0.9\r\n\r\n",
    b"GET /dashboard HTTP/9.9\r\n\r\n",
    b"GET /dashboard HTTP/1.1\n\n",
    b"GET  /dashboard  HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\n\r\n",
    b"\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    b"\x00" * 100,
    b"GET",
    b"",
    b"a" * 70_000,
    b"\xff" * 10 + b"\r\n\r\n",
)


def request_line(rng: Random, request: RawRequest) -> bytes:
    """An unknown method or a malformed target."""
    method = rng.choice(METHODS) if rng.random() < 0.5 else request.method
    target = rng.choice(TARGETS) if rng.random() < 0.7 else request.target
    line = f"{method} {target} HTTP/1.1".encode("latin-1")
    return line + request.to_bytes()[request.to_bytes().index(b"\r\n") :]


def framing(rng: Random, request: RawRequest) -> bytes:
    """Headers that contradict each other about the end of the request, or malformed headers."""
    head = request.to_bytes().removesuffix(b"\r\n")
    return head + b"Content-Type: application/json\r\n" + rng.choice(FRAMINGS)


def host(rng: Random, request: RawRequest) -> bytes:
    """A malformed host, two hosts, or none."""
    host_header = f"Host: {rng.choice(HOSTS)}\r\n".encode("latin-1")
    replacements = {0: b"", 1: host_header, 2: host_header + b"Host: 127.0.0.1\r\n"}
    extra = b"Accept: text/html\r\n" if rng.random() < 0.5 else b""
    return request.to_bytes().replace(b"Host: 127.0.0.1\r\n", rng.choice(replacements) + extra)


def invalid_start(rng: Random, _: RawRequest) -> bytes:
    """Bytes that are no HTTP/1.1 request."""
    return rng.choice(INVALID_STARTS)


def pipeline(rng: Random, request: RawRequest) -> bytes:
    """Several requests without waiting for a response."""
    keep_alive = request.to_bytes().replace(b"Connection: close\r\n", b"")
    return keep_alive * rng.randrange(2, 5) + rng.choice((b"", b"GET", b"\x00", b"\r\n\r\n"))


def incomplete(rng: Random, request: RawRequest) -> bytes:
    """A request that ends in the middle."""
    whole = request.with_body(b'{"reason": "' + b"a" * 500 + b'"}', "application/json").to_bytes()
    return whole[: rng.randrange(len(whole))]


RAW_MUTATORS: tuple[RawMutator, ...] = (
    request_line,
    framing,
    host,
    invalid_start,
    pipeline,
    incomplete,
)


def send_raw(address: tuple[str, int], data: bytes, *, is_reset: bool) -> bytes:
    """Send the bytes and return all received bytes; if `hurried`, reset before the response."""
    received: list[bytes] = []
    with socket.create_connection(address, timeout=TIMEOUT_SECONDS) as connection:
        # The server may close the connection at any time.
        with suppress(ConnectionError):
            connection.sendall(data)
            if is_reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                return b""
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            received.extend(iter(lambda: connection.recv(65_536), b""))
    return b"".join(received)
