"""A proxy before Redis that counts commands and round trips."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Thread
from urllib.parse import urlsplit


@dataclass(slots=True)
class RedisCounts:
    """The URL of the proxy, and its counters.

    A round trip begins with the first bytes from a client after an answer. A command is an array of
    the protocol (RESP); no test has one in its values.
    """

    url: str = ""
    round_trips: int = 0
    commands: int = 0

    def clear(self) -> None:
        """Reset the counters."""
        self.round_trips = self.commands = 0


@contextmanager
def counted_redis(url: str) -> Iterator[RedisCounts]:
    """Run a proxy before the Redis at that URL."""
    target = urlsplit(url)
    listener = socket.create_server(("127.0.0.1", 0))
    counts = RedisCounts(f"redis://127.0.0.1:{listener.getsockname()[1]}/0")

    def accept() -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((str(target.hostname), int(target.port or 0)))
                Thread(target=_exchange, args=(client, server, counts), daemon=True).start()

    Thread(target=accept, daemon=True).start()
    try:
        yield counts
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _exchange(client: socket.socket, server: socket.socket, counts: RedisCounts) -> None:
    """Forward requests and answers in turns, as a client of this protocol sends them."""
    with suppress(OSError), client, server:
        while request := client.recv(65_536):
            counts.round_trips += 1
            counts.commands += (b"\r\n" + request).count(b"\r\n*")
            server.sendall(request)
            client.sendall(server.recv(65_536))
