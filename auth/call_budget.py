"""How many calls to the provider this process may make: a token bucket, and shares of it."""

import enum
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from auth.errors import ProviderUnavailableError


class Share(enum.Enum):
    """What a call is for. All but the first have a limit of their own."""

    SIGNED_IN = "signed in"  # users who are signing in; limited by the whole budget only
    ANONYMOUS = "anonymous"  # handshake nonces, which any client can make up
    SIGN_OUT = "sign out"
    KEYS = "keys"
    BACKGROUND = "background"


@dataclass(frozen=True, slots=True)
class Rate:
    """How many calls in a row, and how many a second in the long run."""

    burst: float
    per_second: float

    def part(self, fraction: float) -> "Rate":
        """A fraction of it, but one call at least."""
        return Rate(max(1.0, self.burst * fraction), self.per_second * fraction)


# Half of what Clerk allows an instance in ten seconds (https://clerk.com/docs/guides/how-clerk-works/
# system-limits: 1000 in production, 100 in development): others use the same key.
PRODUCTION = Rate(burst=250, per_second=25)
DEVELOPMENT = Rate(burst=25, per_second=2.5)
# Users that the background asks about in a minute, however often the sweep runs.
BACKGROUND = Rate(burst=100, per_second=100 / 60)
KEYS = Rate(burst=10, per_second=0.5)


def shares_of(whole: Rate) -> Mapping[Share, Rate]:
    """The limits of the shares inside the whole; users who sign in have no other limit."""
    per_second = min(BACKGROUND.per_second, whole.part(0.4).per_second)
    return {
        Share.ANONYMOUS: whole.part(0.2),
        Share.SIGN_OUT: whole.part(0.1),
        Share.BACKGROUND: Rate(min(BACKGROUND.burst, whole.burst), per_second),
    }


class _Bucket:
    """A token bucket; its owner sees to the locking."""

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate, self._left, self._counted_at = rate, rate.burst, now

    def seconds_until_next(self, now: float, reserve: int = 0) -> float:
        """After how long there is a token above so many that are kept for others."""
        gained = (now - self._counted_at) * self._rate.per_second
        self._left, self._counted_at = min(self._rate.burst, self._left + gained), now
        missing = 1 + reserve - self._left
        if missing <= 0:
            return 0.0
        return missing / self._rate.per_second if self._rate.per_second else math.inf

    def take(self) -> None:
        """Use a token."""
        self._left -= 1


class CallBudget:
    """Counts the calls of one process; shared by threads. `clock` is monotonic, in seconds.

    A tenth of the whole is kept for nonces and sign-outs, so that a rush of new users does not lock
    out those who come back. Published keys, from another host, have a limit of their own.
    """

    def __init__(self, whole: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._reserve = int(whole.burst * 0.1)
        self._whole, self._keys = _Bucket(whole, clock()), _Bucket(KEYS, clock())
        self._shares = {share: _Bucket(rate, clock()) for share, rate in shares_of(whole).items()}
        self._lock = threading.Lock()

    def take(self, share: Share) -> None:
        """Pay for one call, or raise ProviderUnavailableError with the time to wait."""
        with self._lock:
            now = self._clock()
            limits = self._limits(share)
            seconds = max(bucket.seconds_until_next(now, kept) for bucket, kept in limits)
            if seconds:
                raise ProviderUnavailableError("the budget of calls is spent", seconds)
            for bucket, _ in limits:
                bucket.take()

    def _limits(self, share: Share) -> list[tuple[_Bucket, int]]:
        """The buckets that a call of this share is paid from, and what it has to leave in each."""
        if share is Share.KEYS:
            return [(self._keys, 0)]
        is_reserved = share in (Share.ANONYMOUS, Share.SIGN_OUT)
        whole = (self._whole, 0 if is_reserved else self._reserve)
        own = self._shares.get(share)
        return [whole] if own is None else [whole, (own, 0)]
