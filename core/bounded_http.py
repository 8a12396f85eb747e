"""HTTP requests that end in time and in size, whatever the other side sends.

httpx bounds each read of a connection, not the whole request: headers or a body that arrive byte by
byte keep it waiting for hours. Here the connection itself knows when the request has to end.
"""

import ssl
import threading
import time
import urllib.request
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

OPERATION_SECONDS = 2.0  # of connecting, or of one read
KEEPALIVE_SECONDS = 20.0
MOST_CONNECTIONS = 20
GZIP = 31  # zlib's window bits for the gzip format
HEADERS = {
    "User-Agent": "neon-dashboard",
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # a compressed answer is read all the same
}

SocketOption = (
    tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
)


class TooLargeError(Exception):
    """The body is larger than the caller accepts."""


class NotDecodableError(Exception):
    """The body is compressed in a way that cannot be undone."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class BoundedClient:
    """Makes requests to one base URL through a pool of connections; shared by threads."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        is_tls = base_url.startswith("https:")
        # Building a TLS context loads all certificates: only where it is needed.
        context = httpx.create_ssl_context() if is_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        transport = _Transport(context, _proxy_of(base_url))
        self._client = httpx.Client(transport=transport, timeout=OPERATION_SECONDS)
        weakref.finalize(self, self._client.close)

    def request(
        self,
        method: str,
        path: str = "",
        *,
        seconds: float,
        most_bytes: int,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make one request and return the whole answer; redirects are not followed.

        Raises TooLargeError, NotDecodableError, and whatever httpx raises, at the latest after
        `seconds` (name resolution excepted, which no program can interrupt).
        """
        sent = {**HEADERS, **(headers or {})}
        with (
            _time_limit(seconds),
            self._client.stream(
                method, self._base_url + path, params=params, headers=sent
            ) as response,
        ):
            body = bytearray()
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > most_bytes:
                    raise TooLargeError
            names = {name.lower(): value for name, value in response.headers.items()}
            encoding = names.get("content-encoding", "identity").strip().lower()
            return Answer(response.status_code, names, _decoded(bytes(body), encoding, most_bytes))


def _decoded(body: bytes, encoding: str, most_bytes: int) -> bytes:
    if encoding in ("identity", ""):
        return body
    if encoding != "gzip":
        raise NotDecodableError(encoding)
    decoder = zlib.decompressobj(GZIP)
    try:
        decoded = decoder.decompress(body, most_bytes + 1)
    except zlib.error as err:
        raise NotDecodableError("gzip") from err
    if len(decoded) > most_bytes:
        raise TooLargeError
    return decoded


_limit = threading.local()  # `moment`: when the request of this thread has to end


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    _limit.moment = time.monotonic() + seconds
    try:
        yield
    finally:
        del _limit.moment


def _left(timeout: float | None, error: type[Exception]) -> float | None:
    """The time for one operation, within that of the whole request."""
    moment: float | None = getattr(_limit, "moment", None)
    if moment is None:
        return timeout
    left = moment - time.monotonic()
    if left <= 0:
        raise error("the request took too long")
    return left if timeout is None else min(timeout, left)


class _Stream(httpcore.NetworkStream):
    """A connection whose operations keep the time limit of the thread that uses it."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.SyncBackend):
    """Opens connections that keep the time limit."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(super().connect_tcp(host, port, left, local_address, socket_options))


class _Transport(httpx.HTTPTransport):
    """httpx's transport over a pool whose connections keep the time limit."""

    def __init__(self, context: ssl.SSLContext, proxy: httpx.Proxy | None) -> None:
        super().__init__(verify=context)
        settings: dict[str, Any] = {
            "ssl_context": context,
            "keepalive_expiry": KEEPALIVE_SECONDS,
            "max_connections": MOST_CONNECTIONS,
            "network_backend": _Backend(),
        }
        if proxy is None:
            self._pool = httpcore.ConnectionPool(**settings)
        else:
            self._pool = httpcore.HTTPProxy(str(proxy.url), proxy_auth=proxy.raw_auth, **settings)


def _proxy_of(url: str) -> httpx.Proxy | None:
    """The proxy that the environment names for this address."""
    try:
        target = httpx.URL(url)
    except httpx.InvalidURL:
        return None  # each request says so
    found = urllib.request.getproxies().get(target.scheme)
    if not found or urllib.request.proxy_bypass(target.netloc.decode("ascii")):
        return None
    return httpx.Proxy(found if "://" in found else f"http://{found}")
