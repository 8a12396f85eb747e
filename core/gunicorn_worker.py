"""gunicorn's threaded worker, with an end to its patience: no client may hold a thread for long.

The worker reads a request in the thread that answers it, and waits for the next byte for ever; its
`timeout` is about workers that hang, not about clients. As many half-sent requests as there are
threads would stop the service (docs/decisions/013-closed-doors.md).
"""

import socket
import time
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from gunicorn.workers import gthread

HEAD_SECONDS = 5  # for the head of a request, once its first byte is there
REQUEST_SECONDS = 10  # for a small body, and for taking the answer
SLOWEST_BYTES_PER_SECOND = 64 * 1024  # at which a larger body must arrive
LARGEST_BODY_BYTES = 4 * 1024 * 1024  # the app reads no larger one


class SlowClientThreadWorker(gthread.ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """Gives threads only to clients that have something to say, and only for so long."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._patience: dict[Any, float] = {}  # until when, for each connection that has a thread

    def enqueue_req(self, conn: Any) -> None:
        """Give the connection a thread; a new one waits for its first byte without."""
        if conn.initialized or conn.data_ready or not self.alive:
            super().enqueue_req(conn)
            return
        silent: Future[object] = Future()
        silent.set_result(gthread._DEFER)  # noqa: SLF001 - what a thread says after five seconds
        self.finish_request(conn, silent)

    def handle(self, conn: Any) -> Any:
        """Read a request and answer it, in a thread."""
        self._patience[conn] = time.monotonic() + HEAD_SECONDS
        try:
            return super().handle(conn)
        finally:
            del self._patience[conn]

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request whose head is complete, in the same thread."""
        length = getattr(req.body.reader, "length", 0)
        self._patience[conn] = time.monotonic() + request_timeout_seconds(length)
        return super().handle_request(req, conn)

    def _cap_keepalive(self, deadline: float) -> None:
        """At the end: wait for silent clients no longer than for those that were served before."""
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def murder_pending(self) -> None:
        """Once a second, in the main thread: cut the lines of those who have had their time.

        Only this thread closes sockets, so that none of these can be another client's by now.
        """
        super().murder_pending()
        now = time.monotonic()
        for conn, until in list(self._patience.items()):
            if now > until:
                with suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RDWR)


def request_timeout_seconds(body_bytes: int) -> float:
    """How long a request may take whose body is said to be that long; only a list takes longer."""
    return REQUEST_SECONDS + min(body_bytes, LARGEST_BODY_BYTES) / SLOWEST_BYTES_PER_SECOND
