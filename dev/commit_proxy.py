"""A proxy before PostgreSQL that counts messages and can drop the confirmation of a commit."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from sqlalchemy import make_url

from tests.support.statement_counter import ResponseParser, StatementCounts

COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"  # CommandComplete, which only the server sends


class CommitProxy:
    """Forwards all bytes both ways; while `withholds` is set, it drops commit confirmations."""

    def __init__(self, url: str) -> None:
        self._server = f"{make_url(url).query['host']}/.s.PGSQL.5432"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = (
            make_url(url)
            .set(host="127.0.0.1", port=self._listener.getsockname()[1], query={})
            .render_as_string(hide_password=False)
        )
        self.tally = StatementCounts()
        self.withholds = Event()
        self.has_withheld = Event()

    def serve(self) -> None:
        """Accept connections until `close`."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                for direction in (
                    (client, server, None),
                    (server, client, ResponseParser(self.tally)),
                ):
                    Thread(target=self._forward, args=direction, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _forward(
        self, source: socket.socket, target: socket.socket, wiretap: ResponseParser | None
    ) -> None:
        with source:
            with suppress(OSError):
                self._forward_all(source, target, wiretap)
            with suppress(OSError):  # the other side sees the end as well
                target.shutdown(socket.SHUT_RDWR)

    def _forward_all(
        self, source: socket.socket, target: socket.socket, wiretap: ResponseParser | None
    ) -> None:
        while chunk := source.recv(65_536):
            if wiretap:
                wiretap.feed(chunk)
            if self.withholds.is_set() and COMMITTED in chunk:
                self.has_withheld.set()
                continue
            target.sendall(chunk)


@contextmanager
def commit_proxy_before(url: str) -> Iterator[CommitProxy]:
    """Run a relay in front of that server."""
    relay = CommitProxy(url)
    Thread(target=relay.serve, daemon=True).start()
    try:
        yield relay
    finally:
        relay.close()
