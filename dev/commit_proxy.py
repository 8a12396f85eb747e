"""A wire between the app and PostgreSQL that counts, and can keep «committed» to itself."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from sqlalchemy import make_url

from tests.support.statement_counter import Tally, Wiretap

COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"  # CommandComplete, as only the server says it


class Relay:
    """Passes everything on, both ways, until it is told to withhold."""

    def __init__(self, url: str) -> None:
        self._server = f"{make_url(url).query['host']}/.s.PGSQL.5432"
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = (
            make_url(url)
            .set(host="127.0.0.1", port=self._door.getsockname()[1], query={})
            .render_as_string(hide_password=False)
        )
        self.tally = Tally()
        self.withholds = Event()
        self.has_withheld = Event()

    def serve(self) -> None:
        """Take in whoever comes, until the door is closed."""
        with suppress(OSError):
            while True:
                client, _ = self._door.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                for line in ((client, server, None), (server, client, Wiretap(self.tally))):
                    Thread(target=self._pass_on, args=line, daemon=True).start()

    def close(self) -> None:
        """Let nobody else in."""
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()

    def _pass_on(
        self, source: socket.socket, target: socket.socket, wiretap: Wiretap | None
    ) -> None:
        with source:
            with suppress(OSError):
                self._pass_on_all(source, target, wiretap)
            with suppress(OSError):  # however it ended, the other side shall hear of it
                target.shutdown(socket.SHUT_RDWR)

    def _pass_on_all(
        self, source: socket.socket, target: socket.socket, wiretap: Wiretap | None
    ) -> None:
        while chunk := source.recv(65_536):
            if wiretap:
                wiretap.hear(chunk)
            if self.withholds.is_set() and COMMITTED in chunk:
                self.has_withheld.set()
                continue
            target.sendall(chunk)


@contextmanager
def relayed(url: str) -> Iterator[Relay]:
    """A relay in front of that server."""
    relay = Relay(url)
    Thread(target=relay.serve, daemon=True).start()
    try:
        yield relay
    finally:
        relay.close()
