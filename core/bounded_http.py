"""HTTP requests whose whole duration and response size are bounded.

httpx bounds each read of a connection, not the whole request: headers or a body that arrive byte by
byte keep it waiting for hours. Here each operation of a connection ends with the request's limit.
"""

import functools
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
MAX_CONNECTIONS = 20
GZIP = 31  # zlib's window bits for the gzip format
HEADERS = {
    "User-Agent": "neon-dashboard",
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # a compressed response is read all the same
}

SocketOption = (
    tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
)


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
        is_tls = base_url.startswith("https:")
        context = _tls_context() if is_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        transport = _Transport(context, _proxy_of(base_url))
        self._client = httpx.Client(transport=transport, timeout=OPERATION_SECONDS)
        weakref.finalize(self, self._client.close)

    def request(
        self,
        method: str,
        path: str = "",
        *,
        seconds: float,
        max_bytes: int,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Make one request and return the whole response; redirects are not followed.

        Raises TooLargeError, NotDecodableError and the errors of httpx, at the latest after
        `seconds`. Name resolution is excepted, because it cannot be interrupted.
        """
        all_headers = {**HEADERS, **(headers or {})}
        with (
            _time_limit(seconds),
            self._client.stream(
                method, self._base_url + path, params=params, headers=all_headers
            ) as response,
        ):
            body = bytearray()
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > max_bytes:
                    raise TooLargeError
            response_headers = {name.lower(): value for name, value in response.headers.items()}
            encoding = response_headers.get("content-encoding", "identity").strip().lower()
            return Response(
                response.status_code, response_headers, _decode(bytes(body), encoding, max_bytes)
            )


@functools.cache
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
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.NetworkStream:
        left = _remaining(timeout, httpcore.ConnectTimeout)
        return _Stream(super().connect_tcp(host, port, left, local_address, socket_options))


class _Transport(httpx.HTTPTransport):
    """httpx's transport over a pool of `_Stream` connections."""

    def __init__(self, context: ssl.SSLContext, proxy: httpx.Proxy | None) -> None:
        super().__init__(verify=context)
        settings: dict[str, Any] = {
            "ssl_context": context,
            "keepalive_expiry": KEEPALIVE_SECONDS,
            "max_connections": MAX_CONNECTIONS,
            "network_backend": _Backend(),
        }
        if proxy is None:
            self._pool = httpcore.ConnectionPool(**settings)
        else:
            self._pool = httpcore.HTTPProxy(str(proxy.url), proxy_auth=proxy.raw_auth, **settings)


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
