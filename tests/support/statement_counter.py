"""Counting from the server's side: what it answers tells how often it was asked, and how much."""

import struct
from dataclasses import dataclass

READY, COMPLETE = ord("Z"), ord("C")
REFUSED = b"N"  # the one-byte answer to whoever would have liked to encrypt


@dataclass(slots=True)
class Tally:
    """Round trips are answers that end in ReadyForQuery, statements those that completed."""

    round_trips: int = 0
    statements: int = 0

    def clear(self) -> None:
        """Begin anew."""
        self.round_trips = self.statements = 0


class Wiretap:
    """Reads one server's words to one client, in PostgreSQL's protocol, version 3."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._unread = b""
        self._is_open = False  # once the session is; what comes before is no answer to a question

    def hear(self, chunk: bytes) -> None:
        """Count what is complete by now."""
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
