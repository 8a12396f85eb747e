"""HTTP requests whose whole duration and response size are bounded.

httpx bounds each read of a connection, not the whole request: headers or a body that arrive byte by
byte keep it waiting for hours. Here each operation of a connection ends with the request's limit.
Requests are made by httpcore, the transport of httpx: building httpx's objects around each of them
costs as much processor time again (docs/performance.md).
"""

import json
import ssl
import threading
import time
import urllib.request
import weakref
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any
from urllib.parse import urlencode

import httpcore
import httpx

OPERATION_SECONDS = 2.0  # of connecting, or of one read
KEEPALIVE_SECONDS = 20.0
MAX_CONNECTIONS = 20
CACHED_ADDRESSES = 16
TIMEOUTS = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), OPERATION_SECONDS)}
GZIP = 31  # zlib's window bits for the gzip format
HEADERS = {
    "User-Agent": "neon-dashboard",
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # a compressed response is read all the same
}


class TooLargeError(Exception):
    """The body is larger than the caller accepts."""


class NotDecodableError(Exception):
    """The body has an encoding that cannot be decoded."""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class BoundedClient:
    """Makes requests to one base URL through a pool of connections; shared by threads."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._pool = _pool_for(base_url)
        weakref.finalize(self, self._pool.close)

    def request(
        self,
        method: str,
        path: str = "",
        *,
        seconds: float,
        max_bytes: int,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Response:
        """Make one request and return the whole response; redirects are not followed.

        `body` is sent as JSON. Raises TooLargeError, NotDecodableError, httpx.InvalidURL and the
        errors of httpcore, at the latest after `seconds`. Name resolution is excepted, because it
        cannot be interrupted.
        """
        address = _address_of(self._base_url)
        query = f"?{urlencode(params)}" if params else ""
        url = httpcore.URL(
            scheme=address.raw_scheme,
            host=address.raw_host,
            port=address.port,
            target=address.raw_path + f"{path}{query}".encode("ascii"),
        )
        own_headers = {"Host": address.netloc.decode(), **HEADERS, **(headers or {})}
        sent = b"" if body is None else json.dumps(body).encode()
        if body is not None:
            own_headers["Content-Type"] = "application/json"
        if method != "GET":
            own_headers["Content-Length"] = str(len(sent))
        with (
            _time_limit(seconds),
            self._pool.stream(
                method,
                url,
                headers=list(own_headers.items()),
                content=sent or None,
                extensions=TIMEOUTS,
            ) as response,
        ):
            received = bytearray()
            for chunk in response.iter_stream():
                received += chunk
                if len(received) > max_bytes:
                    raise TooLargeError
        response_headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in response.headers
        }
        encoding = response_headers.get("content-encoding", "identity").strip().lower()
        return Response(
            response.status, response_headers, _decode(bytes(received), encoding, max_bytes)
        )


@lru_cache(CACHED_ADDRESSES)
def _address_of(url: str) -> httpx.URL:
    """Return the URL in parts, as it is sent; raises httpx.InvalidURL."""
    return httpx.URL(url)


@cache
def _tls_context() -> ssl.SSLContext:
    """Return the context of all clients; it loads all certificates, so only https needs it."""
    return httpx.create_ssl_context()


def _decode(body: bytes, encoding: str, max_bytes: int) -> bytes:
    if encoding in ("identity", ""):
        return body
    if encoding != "gzip":
        raise NotDecodableError(encoding)
    decoder = zlib.decompressobj(GZIP)
    try:
        decoded = decoder.decompress(body, max_bytes + 1)
    except zlib.error as err:
        raise NotDecodableError("gzip") from err
    if len(decoded) > max_bytes:
        raise TooLargeError
    return decoded


_thread = threading.local()  # `ends_at`: when the request of this thread has to end


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    _thread.ends_at = time.monotonic() + seconds
    try:
        yield
    finally:
        del _thread.ends_at


def _remaining(timeout: float | None, error: type[Exception]) -> float | None:
    """Return the timeout of one operation, shortened to the rest of the request's time."""
    ends_at: float | None = getattr(_thread, "ends_at", None)
    if ends_at is None:
        return timeout
    left = ends_at - time.monotonic()
    if left <= 0:
        raise error("the request took too long")
    return left if timeout is None else min(timeout, left)


class _Stream(httpcore.NetworkStream):
    """A connection whose operations end within the time limit of the calling thread."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _remaining(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _remaining(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = _remaining(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.SyncBackend):
    """Opens connections of the class `_Stream`."""

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *others: Any, **options: Any
    ) -> httpcore.NetworkStream:
        left = _remaining(timeout, httpcore.ConnectTimeout)
        return _Stream(super().connect_tcp(host, port, left, *others, **options))


def _pool_for(base_url: str) -> httpcore.ConnectionPool:
    """Return a pool of `_Stream` connections, through the proxy of the environment if any."""
    is_tls = base_url.startswith("https:")
    settings: dict[str, Any] = {
        "ssl_context": _tls_context() if is_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        "keepalive_expiry": KEEPALIVE_SECONDS,
        "max_connections": MAX_CONNECTIONS,
        "network_backend": _Backend(),
    }
    proxy = _proxy_of(base_url)
    if proxy is None:
        return httpcore.ConnectionPool(**settings)
    return httpcore.HTTPProxy(str(proxy.url), proxy_auth=proxy.raw_auth, **settings)


def _proxy_of(url: str) -> httpx.Proxy | None:
    """Return the proxy that the environment sets for this URL."""
    try:
        target = httpx.URL(url)
    except httpx.InvalidURL:
        return None  # each request raises the error
    proxy_url = urllib.request.getproxies().get(target.scheme)
    if not proxy_url or urllib.request.proxy_bypass(target.netloc.decode("ascii")):
        return None
    return httpx.Proxy(proxy_url if "://" in proxy_url else f"http://{proxy_url}")
