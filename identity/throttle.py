"""May the provider be asked just now? Not beyond its limits, and not while it is in trouble."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from identity.errors import ProviderUnavailableError

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 5.0  # far below the sweep's interval, so that its next run finds out


@dataclass(frozen=True, slots=True)
class Budget:
    """How many questions in a row, and how many a second in the long run."""

    burst: float
    per_second: float


# Half of what Clerk allows an instance in ten seconds (https://clerk.com/docs/guides/how-clerk-works/
# system-limits: 1000 in production, 100 in development): others use the same key.
PRODUCTION = Budget(burst=250, per_second=25)
DEVELOPMENT = Budget(burst=25, per_second=2.5)


class Throttle:
    """Counts questions and failures of one process; safe to share between threads.

    After a failure everybody is refused at once, for a pause that doubles with each further one;
    then a single question finds out whether the provider is back.
    """

    def __init__(self, budget: Budget, clock: Callable[[], float] = time.monotonic) -> None:
        self._budget = budget
        self._clock = clock
        self._left = budget.burst
        self._counted_at = clock()
        self._failures = 0
        self._paused_until = 0.0  # by ourselves, after a failure
        self._rests_until = 0.0  # because the provider wants it
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether the latest question was answered, and the provider does not want to rest."""
        with self._lock:
            return not self._failures and self._clock() >= self._rests_until

    def admit(self, *, is_probe: bool = False) -> None:
        """Let one question through, or raise ProviderUnavailableError.

        A probe may ask although the provider has just failed, but not where it has told us to wait.
        """
        with self._lock:
            now = self._clock()
            if now < self._rests_until:
                raise ProviderUnavailableError("the provider has asked for rest")
            if now < self._paused_until and not is_probe:
                raise ProviderUnavailableError("the provider has just failed")
            self._refill(now)
            if self._left < 1:
                raise ProviderUnavailableError("the budget of questions is spent")
            self._left -= 1
            if self._failures:  # this one finds out; the others wait for what it learns
                self._paused_until = now + self._pause()

    def succeeded(self) -> None:
        """The provider has answered."""
        with self._lock:
            self._failures, self._paused_until = 0, 0.0

    def failed(self) -> None:
        """The provider has not answered, or not usefully."""
        with self._lock:
            self._failures += 1
            self._paused_until = self._clock() + self._pause()

    def told_to_wait(self, seconds: float) -> None:
        """The provider wants to be left alone for so long (429 with Retry-After).

        What other questions find out meanwhile, which were under way, does not shorten it.
        """
        with self._lock:
            self._failures, self._paused_until = 0, 0.0
            self._rests_until = max(self._rests_until, self._clock() + seconds)

    def _refill(self, now: float) -> None:
        gained = (now - self._counted_at) * self._budget.per_second
        self._left, self._counted_at = min(self._budget.burst, self._left + gained), now

    def _pause(self) -> float:
        doubled: float = FIRST_PAUSE_SECONDS * 2 ** min(self._failures - 1, 10)
        return min(LONGEST_PAUSE_SECONDS, doubled)
