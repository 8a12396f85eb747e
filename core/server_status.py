"""Whether the database server answers and accepts writes, as observed by this process."""

import time
from collections.abc import Callable

from core.deadlines import scaled

PROBE_WAIT_SECONDS = 0.2  # a server nearby takes far less to open a connection
LONGEST_CONNECT_SECONDS = 10.0  # a suspended serverless database may take that long to answer
LONGEST_ROUND_TRIP_SECONDS = 0.25  # a measurement on a busy machine must not extend every limit


class ServerStatus:
    """Since when the server has been silent, and how long a round trip to it takes.

    The connection pool writes it under its lock; any thread may read it. The server is silent since
    the first attempt to connect, or the first statement, after which no answer was seen. An opened
    connection and a working one that is returned to the pool count as answers. The server is
    read-only from the first refused write until a new connection accepts writes.
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
        """The time for which the server has not answered; 0 while it answers."""
        since = self._silent_since
        return 0.0 if since is None else self._clock() - since

    @property
    def is_read_only(self) -> bool:
        """Whether the server has refused writes, and no new connection accepts them."""
        return self._read_only_since is not None

    @property
    def outage_seconds(self) -> float:
        """The time for which the server has been silent or read-only; 0 while it is neither."""
        since = self._read_only_since
        return max(self.silent_seconds, 0.0 if since is None else self._clock() - since)

    @property
    def can_open_several(self) -> bool:
        """Whether several connections may be opened at once."""
        is_quick = self.silent_seconds < PROBE_WAIT_SECONDS
        return self.answers > 0 and is_quick and not self._has_failed

    @property
    def is_connecting(self) -> bool:
        """Whether an attempt to connect may still succeed: it is young, and none has failed."""
        is_young = self.silent_seconds < scaled(LONGEST_CONNECT_SECONDS)
        return self._silent_since is not None and is_young and not self._has_failed

    def note_attempt(self) -> None:
        """Note that an attempt to connect begins."""
        if self._silent_since is None:
            self._silent_since = self._clock()

    def note_failure(self) -> None:
        """Note that an attempt to connect failed."""
        self._has_failed = True

    def note_silence(self, seconds: float) -> None:
        """Note that a statement got no answer for `seconds`."""
        self._has_failed = True
        if self._silent_since is None:
            self._silent_since = self._clock() - seconds

    def note_read_only(self) -> None:
        """Note that a write was refused, or that a connection reports a read-only session."""
        if self._read_only_since is None:
            self._read_only_since = self._clock()

    def note_writable(self) -> None:
        """Note that a new connection accepts writes."""
        self._read_only_since = None

    def note_answer(self, round_trip_seconds: float | None, *, is_connecting: bool) -> None:
        """Note that the server has just answered; `is_connecting` while other attempts run.

        `round_trip_seconds` is the connection's measurement, if there is one.
        """
        self.answers += 1
        self._has_failed = False
        self._silent_since = self._clock() if is_connecting else None
        if round_trip_seconds is not None:
            self.round_trip_seconds = min(round_trip_seconds, LONGEST_ROUND_TRIP_SECONDS)
