"""A wire between the app and PostgreSQL that can keep the word «committed» to itself."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from sqlalchemy import make_url

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
        self.withholds = Event()
        self.has_withheld = Event()

    def serve(self) -> None:
        """Take in whoever comes, until the door is closed."""
        with suppress(OSError):
            while True:
                client, _ = self._door.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                Thread(target=self._pass_on, args=(client, server), daemon=True).start()
                Thread(target=self._pass_on, args=(server, client), daemon=True).start()

    def close(self) -> None:
        """Let nobody else in."""
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with source, suppress(OSError):
            while chunk := source.recv(65_536):
                if self.withholds.is_set() and COMMITTED in chunk:
                    self.has_withheld.set()
                    continue
                target.sendall(chunk)
            target.shutdown(socket.SHUT_RDWR)


@contextmanager
def relayed(url: str) -> Iterator[Relay]:
    """A relay in front of that server."""
    relay = Relay(url)
    Thread(target=relay.serve, daemon=True).start()
    try:
        yield relay
    finally:
        relay.close()
