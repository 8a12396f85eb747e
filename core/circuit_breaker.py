"""A circuit breaker: refuse calls to a service that has just failed, probe it, then resume."""

import threading
import time
from collections.abc import Callable


class CircuitOpenError(Exception):
    """No call may be made now; `wait_seconds` is the time until one may be tried."""

    def __init__(self, reason: str, wait_seconds: float) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class CircuitBreaker:
    """The circuit of one service; shared by threads. `clock` is monotonic, in seconds.

    After a failure all calls are refused for `first_pause` seconds. The pause doubles with each
    further failure, up to `longest_pause`. After it, one call probes the service while the others
    are still refused.
    """

    def __init__(
        self,
        first_pause: float = 1.0,
        longest_pause: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first_pause, self._longest_pause, self._clock = first_pause, longest_pause, clock
        self._failures = 0
        self._paused_until = 0.0  # after a failure
        self._rests_until = 0.0  # after a rate limit of the service
        self._lock = threading.Lock()

    @property
    def is_closed(self) -> bool:
        """Whether the latest call succeeded and no rate limit of the service is in force."""
        with self._lock:
            return not self._failures and self._clock() >= self._rests_until

    def check(self, *, may_probe: bool = False) -> None:
        """Raise CircuitOpenError unless a call may be made.

        `may_probe` ignores the pause after a failure, but not a rate limit of the service.
        """
        # Without the lock, which each request would take: a failure that is noted at this very
        # moment concerns the next call.
        if not self._failures and not self._rests_until:
            return
        with self._lock:
            now = self._clock()
            if now < self._rests_until:
                raise CircuitOpenError("the service has asked for rest", self._rests_until - now)
            if now < self._paused_until and not may_probe:
                raise CircuitOpenError("the service has just failed", self._paused_until - now)

    def note_call(self) -> None:
        """Note that a call begins; after a failure, others are refused until it has ended."""
        if not self._failures:
            return
        with self._lock:
            if self._failures:
                self._paused_until = self._clock() + self._pause()

    def note_success(self) -> None:
        """Note that a call succeeded, and close the circuit."""
        if not self._failures:
            return
        with self._lock:
            self._failures, self._paused_until = 0, 0.0

    def note_failure(self) -> None:
        """Note that a call failed, and open the circuit."""
        with self._lock:
            self._failures += 1
            self._paused_until = self._clock() + self._pause()

    def refuse_for(self, seconds: float) -> None:
        """Refuse all calls for `seconds`; results of calls under way do not shorten this time."""
        with self._lock:
            self._failures, self._paused_until = 0, 0.0
            self._rests_until = max(self._rests_until, self._clock() + seconds)

    def _pause(self) -> float:
        doubled: float = self._first_pause * 2 ** min(self._failures - 1, 10)
        return min(self._longest_pause, doubled)
