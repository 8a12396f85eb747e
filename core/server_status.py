"""Whether the database server answers and takes writes, as this process finds out."""

import time
from collections.abc import Callable

PROBE_WAIT_SECONDS = 0.2  # a server nearby takes far less to open a connection
LONGEST_ROUND_TRIP_SECONDS = 0.25  # a measurement on a busy machine must not stretch every limit


class ServerStatus:
    """Since when the server has been silent, and how long a round trip to it takes.

    The connection pool writes it under its lock; any thread may read it. The server is silent from
    the first attempt to connect, or the first statement, that no answer has followed: neither a
    connection that opened nor one that came back from use in working order. It is read-only from
    the first refused write on, until a new connection is found to take writes.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._silent_since: float | None = None
        self._read_only_since: float | None = None
        self._has_failed = False
        self.answers = 0
        self.round_trip_seconds = 0.0

    @property
    def silent_seconds(self) -> float:
        """For how long the server has not answered; 0 while it does."""
        since = self._silent_since
        return 0.0 if since is None else self._clock() - since

    @property
    def is_read_only(self) -> bool:
        """Whether the server has refused writes, and no connection that takes them is known."""
        return self._read_only_since is not None

    @property
    def outage_seconds(self) -> float:
        """For how long the server has been silent or read-only; 0 while it is neither."""
        since = self._read_only_since
        return max(self.silent_seconds, 0.0 if since is None else self._clock() - since)

    @property
    def is_answering(self) -> bool:
        """Whether it is worth opening several connections at once."""
        is_quick = self.silent_seconds < PROBE_WAIT_SECONDS
        return self.answers > 0 and is_quick and not self._has_failed

    @property
    def is_first_attempt(self) -> bool:
        """Whether nothing is known yet: the first connection of this process is still opening."""
        return self.answers == 0 and not self._has_failed

    def note_attempt(self) -> None:
        """An attempt to connect begins."""
        if self._silent_since is None:
            self._silent_since = self._clock()

    def note_failure(self) -> None:
        """An attempt to connect has failed."""
        self._has_failed = True

    def note_silence(self, seconds: float) -> None:
        """A statement has waited for so long in vain."""
        if self._silent_since is None:
            self._silent_since = self._clock() - seconds

    def note_read_only(self) -> None:
        """A write was refused because the database is read-only, or a connection reports it."""
        if self._read_only_since is None:
            self._read_only_since = self._clock()

    def note_writable(self) -> None:
        """A new connection takes writes."""
        self._read_only_since = None

    def note_answer(self, round_trip_seconds: float | None, *, is_connecting: bool) -> None:
        """The server has just answered; further attempts to connect may be running.

        The round trip is what the connection has measured, if it has.
        """
        self.answers += 1
        self._has_failed = False
        self._silent_since = self._clock() if is_connecting else None
        if round_trip_seconds is not None:
            self.round_trip_seconds = min(round_trip_seconds, LONGEST_ROUND_TRIP_SECONDS)
