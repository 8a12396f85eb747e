"""Databases of tests and benchmarks: connections that see committed rows, and a simulated network.

The network before PostgreSQL is far, slow to connect, silent or resetting. It counts statements and
can withhold the confirmation of a commit.
"""

import asyncio
import socket
import struct
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

from sqlalchemy import NullPool, create_engine, make_url, text
from sqlalchemy.engine import Connection

# Makes every insert of a profile fail with a permanent error.
REFUSE_PROFILES = """
CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'poisoned' USING ERRCODE = '23514'; END $$;
CREATE TRIGGER poison BEFORE INSERT ON mentorados FOR EACH ROW EXECUTE FUNCTION poison();
"""
CHUNK_BYTES = 65_536
POLL_SECONDS = 0.01
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # closing resets the connection
COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"  # CommandComplete, which only the server sends
READY, COMPLETE = ord("Z"), ord("C")
REFUSED = b"N"  # one-byte response: no encryption


@contextmanager
def connect_to(url: str) -> Iterator[Connection]:
    """Open a connection in autocommit mode."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


@contextmanager
def hold_locks(url: str, query: str) -> Iterator[Connection]:
    """Open a connection that holds the locks of a query until it rolls back or is closed."""
    with create_engine(url, poolclass=NullPool).connect() as connection:
        connection.execute(text(query))
        yield connection


def count(url: str, query: str, **values: object) -> int:
    """Return the result of a counting query."""
    with connect_to(url) as connection:
        return int(connection.execute(text(query), values).scalar_one())


@dataclass(slots=True)
class StatementCounts:
    """Counters: round trips end with ReadyForQuery, statements with CommandComplete."""

    round_trips: int = 0
    statements: int = 0

    def clear(self) -> None:
        """Reset the counters."""
        self.round_trips = self.statements = 0


class ResponseParser:
    """Parses the messages of one server connection (PostgreSQL protocol version 3)."""

    def __init__(self, tally: StatementCounts) -> None:
        self._tally = tally
        self._unread = b""
        self._is_open = False  # after the start of the session, whose messages are not counted

    def feed(self, chunk: bytes) -> None:
        """Count the complete messages in the received bytes."""
        self._unread += chunk
        while not self._is_open and self._unread.startswith(REFUSED):
            self._unread = self._unread[1:]
        while len(self._unread) >= 5:
            kind, length = struct.unpack("!BI", self._unread[:5])
            if len(self._unread) <= length:
                return
            self._unread = self._unread[length + 1 :]
            self._count(kind)

    def _count(self, kind: int) -> None:
        if not self._is_open:
            self._is_open = kind == READY
        elif kind == READY:
            self._tally.round_trips += 1
        elif kind == COMPLETE:
            self._tally.statements += 1


@dataclass(slots=True)
class SimulatedNetwork:
    """The state of the simulated network; its fields may change at any time.

    `round_trip_seconds` delay every message of every connection, and the first one twice, because
    of TCP's handshake. `connect_seconds` pass before a new connection delivers its first byte, as
    for TLS and authentication; while the network `is_slow`, it delivers none. A connection that is
    used while the network `is_silent` is lost, and neither side gets an error. While it `resets`,
    new connections are reset. While `withholds` is set, it drops the confirmations of commits, and
    sets `has_withheld`. `accepted` and `lost` count connections, `tally` what passes through them.
    """

    url: str
    round_trip_seconds: float = 0.0
    connect_seconds: float = 0.0
    is_slow: bool = False
    is_silent: bool = False
    resets: bool = False
    withholds: Event = field(default_factory=Event)
    has_withheld: Event = field(default_factory=Event)
    tally: StatementCounts = field(default_factory=StatementCounts)
    accepted: int = 0
    lost: int = 0


@contextmanager
def network_proxy(server_url: str) -> Iterator[SimulatedNetwork]:
    """Run a network in front of a server that listens on a Unix socket."""
    path = f"{make_url(server_url).query['host']}/.s.PGSQL.5432"
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(timeout=10)

    network = SimulatedNetwork(server_url)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        network.accepted += 1
        tasks.add(loop.create_task(_forward(network, path, reader, writer)))

    server = run(asyncio.start_server(accept, "127.0.0.1", 0))
    port = server.sockets[0].getsockname()[1]
    url = make_url(server_url).set(host="127.0.0.1", port=port, query={})
    network.url = url.render_as_string(hide_password=False)
    try:
        yield network
    finally:
        run(_close(server, tasks))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()


async def _forward(
    network: SimulatedNetwork, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Forward one connection until either side ends it."""
    try:
        if network.resets:
            connection: socket.socket = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            return
        if network.is_silent:
            await reader.read()  # until the client gives up
            return
        await asyncio.sleep(network.connect_seconds + network.round_trip_seconds)
        while network.is_slow:
            await asyncio.sleep(POLL_SECONDS)
        server_reader, server_writer = await asyncio.open_unix_connection(path)
        await asyncio.gather(
            _deliver(network, reader, server_writer),
            _deliver(network, server_reader, writer, ResponseParser(network.tally)),
        )
    finally:
        writer.transport.abort()


async def _deliver(
    network: SimulatedNetwork,
    source: asyncio.StreamReader,
    target: asyncio.StreamWriter,
    parser: ResponseParser | None = None,
) -> None:
    """Deliver what arrives in order, each byte half a round trip after it was sent."""
    queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
    reading = asyncio.create_task(_read(network, source, queue, parser))
    try:
        while True:
            arrives_at, chunk = await queue.get()
            await asyncio.sleep(arrives_at - asyncio.get_running_loop().time())
            if network.is_silent:
                network.lost += 1
                await asyncio.Event().wait()  # lost: nothing arrives any more, not even EOF
            if not chunk:
                return
            target.write(chunk)
    finally:
        reading.cancel()
        target.close()


async def _read(
    network: SimulatedNetwork,
    source: asyncio.StreamReader,
    queue: asyncio.Queue[tuple[float, bytes]],
    parser: ResponseParser | None,
) -> None:
    """Queue what arrives; with `parser`, it comes from the server."""
    chunk = b"-"
    while chunk:
        try:
            chunk = await source.read(CHUNK_BYTES)
        except ConnectionError:
            chunk = b""
        if parser is not None:
            parser.feed(chunk)
            if network.withholds.is_set() and COMMITTED in chunk:
                network.has_withheld.set()
                continue
        arrives_at = asyncio.get_running_loop().time() + network.round_trip_seconds / 2
        queue.put_nowait((arrives_at, chunk))


async def _close(server: asyncio.Server, tasks: set[asyncio.Task[None]]) -> None:
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(POLL_SECONDS)  # closed transports close their sockets a moment later
