"""gunicorn's threaded worker with time limits for slow clients.

gunicorn's worker reads a request in the thread that answers it, and waits for the next byte without
a limit; its `timeout` concerns hanging workers, not clients. As many half-sent requests as there
are threads would stop the service (docs/decisions/013-limits-for-clients.md).
"""

import socket
import time
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from gunicorn.workers import gthread

from core import deadlines, long_responses

HEAD_SECONDS = 5  # for the head of a request, from its first byte on
REQUEST_SECONDS = 10  # for a small body, and for receiving the response
SLOWEST_BYTES_PER_SECOND = 64 * 1024  # at which a larger body must arrive
MAX_BODY_BYTES = 4 * 1024 * 1024  # the app does not read larger bodies


class SlowClientThreadWorker(gthread.ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """Assigns threads only to connections with data, and limits how long they keep them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadlines: dict[Any, float] = {}  # of each connection that has a thread
        self._received_at: dict[Any, float] = {}  # of each connection that waits for a thread

    def enqueue_req(self, conn: Any) -> None:
        """Assign a thread to the connection; a new one waits for its first byte without one."""
        if conn.initialized or conn.data_ready or not self.alive:
            self._received_at[conn] = time.monotonic()
            super().enqueue_req(conn)
            return
        deferred: Future[object] = Future()
        deferred.set_result(gthread._DEFER)  # noqa: SLF001 - a thread's result after five seconds
        self.finish_request(conn, deferred)

    def handle(self, conn: Any) -> Any:
        """Read a request and answer it, in a thread."""
        now = time.monotonic()
        self._deadlines[conn] = now + HEAD_SECONDS
        deadlines.received_at.set(self._received_at.pop(conn, now))
        try:
            return super().handle(conn)
        finally:
            del self._deadlines[conn]

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request whose head is complete, in the same thread."""
        length = getattr(req.body.reader, "length", 0)
        self._deadlines[conn] = time.monotonic() + request_timeout_seconds(length)
        long_responses.set_renewal(partial(self._renew, conn))
        return super().handle_request(req, conn)

    def _renew(self, conn: Any) -> None:
        """Give the client of a long response the same time for its next part."""
        self._deadlines[conn] = time.monotonic() + REQUEST_SECONDS

    def _cap_keepalive(self, deadline: float) -> None:
        """At shutdown, limit the wait for new silent clients as that for keep-alive connections."""
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def murder_pending(self) -> None:
        """Shut down connections whose deadline has passed; runs each second in the main thread.

        Only this thread closes sockets, so that none of these can belong to another client by now.
        """
        super().murder_pending()
        now = time.monotonic()
        for conn, deadline in list(self._deadlines.items()):
            if now > deadline:
                with suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RDWR)


def request_timeout_seconds(body_bytes: int) -> float:
    """Return the time limit of a request with a body of this length; larger bodies get more."""
    return REQUEST_SECONDS + min(body_bytes, MAX_BODY_BYTES) / SLOWEST_BYTES_PER_SECOND
