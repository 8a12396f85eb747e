"""Counts round trips and statements in the responses of a PostgreSQL server."""

import struct
from dataclasses import dataclass

READY, COMPLETE = ord("Z"), ord("C")
REFUSED = b"N"  # one-byte response: no encryption


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
