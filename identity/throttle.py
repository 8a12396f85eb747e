"""May the provider be asked just now? Not beyond its limits, and not while it is in trouble."""

import math
import threading
import time
from collections.abc import Callable, Sequence
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
# The sweep's share: so many users a minute are completed, however often it runs, and most of the
# budget stays for users who are signing in.
BACKGROUND = Budget(burst=100, per_second=100 / 60)


class _Bucket:
    """A token bucket; its owner sees to the locking."""

    def __init__(self, budget: Budget, now: float) -> None:
        self._budget, self._left, self._counted_at = budget, budget.burst, now

    def seconds_until_next(self, now: float) -> float:
        """After how long there is a token."""
        gained = (now - self._counted_at) * self._budget.per_second
        self._left, self._counted_at = min(self._budget.burst, self._left + gained), now
        if self._left >= 1:
            return 0.0
        return (1 - self._left) / self._budget.per_second if self._budget.per_second else math.inf

    def take(self) -> None:
        """Use a token."""
        self._left -= 1


class Throttle:
    """Counts questions and failures of one process; safe to share between threads.

    After a failure everybody is refused at once, for a pause that doubles with each further one;
    then a single question finds out whether the provider is back. What is said about a single user
    is no failure.
    """

    def __init__(
        self,
        budget: Budget,
        clock: Callable[[], float] = time.monotonic,
        background: Budget = BACKGROUND,
    ) -> None:
        self._clock = clock
        self._all, self._background = _Bucket(budget, clock()), _Bucket(background, clock())
        self._failures = 0
        self._paused_until = 0.0  # by ourselves, after a failure
        self._rests_until = 0.0  # because the provider wants it
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether the latest question was answered, and the provider does not want to rest."""
        with self._lock:
            return not self._failures and self._clock() >= self._rests_until

    def admit(self, *, is_background: bool = False) -> None:
        """Let one question through, or raise ProviderUnavailableError with the time to wait.

        A background question may be sent although the provider has just failed: the sweep finds out
        when it is back. It has to keep to its own rate as well.
        """
        with self._lock:
            now = self._clock()
            if now < self._rests_until:
                raise ProviderUnavailableError(
                    "the provider has asked for rest", self._rests_until - now
                )
            if now < self._paused_until and not is_background:
                raise ProviderUnavailableError(
                    "the provider has just failed", self._paused_until - now
                )
            self._take(now, [self._all, self._background] if is_background else [self._all])
            if self._failures:  # this one finds out; the others wait for what it learns
                self._paused_until = now + self._pause()

    def _take(self, now: float, buckets: Sequence[_Bucket]) -> None:
        seconds = max(bucket.seconds_until_next(now) for bucket in buckets)
        if seconds:
            raise ProviderUnavailableError("the budget of questions is spent", seconds)
        for bucket in buckets:
            bucket.take()

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

    def _pause(self) -> float:
        doubled: float = FIRST_PAUSE_SECONDS * 2 ** min(self._failures - 1, 10)
        return min(LONGEST_PAUSE_SECONDS, doubled)
