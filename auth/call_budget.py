"""The budget of calls to the identity provider: a token bucket for this process, and shares."""

import enum
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from auth.errors import ProviderUnavailableError


class Share(enum.Enum):
    """The purpose of a call. All but the first have a separate limit."""

    SIGNED_IN = "signed in"  # users who are signing in; limited by the whole budget only
    ANONYMOUS = "anonymous"  # handshake nonces, which any client can invent
    REFRESH = "refresh"  # expired sessions; a browser without one is redirected instead
    SIGN_OUT = "sign out"
    KEYS = "keys"
    BACKGROUND = "background"


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate of calls: the largest burst, and the number per second in the long run."""

    burst: float
    per_second: float

    def part(self, fraction: float) -> "Rate":
        """Return a fraction of this rate, with a burst of at least one call."""
        return Rate(max(1.0, self.burst * fraction), self.per_second * fraction)


# Half of what Clerk allows an instance in ten seconds (https://clerk.com/docs/guides/how-clerk-works/
# system-limits: 1000 in production, 100 in development), because other programs use the same key.
PRODUCTION = Rate(burst=250, per_second=25)
DEVELOPMENT = Rate(burst=25, per_second=2.5)
# Users that background jobs look up in a minute, however often the sweep runs.
BACKGROUND = Rate(burst=100, per_second=100 / 60)
KEYS = Rate(burst=10, per_second=0.5)


def shares_of(whole: Rate) -> Mapping[Share, Rate]:
    """Return the limits of the shares; users who sign in are limited by the whole only."""
    per_second = min(BACKGROUND.per_second, whole.part(0.4).per_second)
    return {
        Share.ANONYMOUS: whole.part(0.2),
        Share.REFRESH: Rate(whole.part(0.1).burst, whole.part(0.2).per_second),
        Share.SIGN_OUT: whole.part(0.1),
        Share.BACKGROUND: Rate(min(BACKGROUND.burst, whole.burst), per_second),
    }


class _Bucket:
    """A token bucket; the caller holds the lock."""

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate, self._left, self._counted_at = rate, rate.burst, now

    def seconds_until_next(self, now: float, reserve: int = 0) -> float:
        """Return the seconds until there is a token besides `reserve` tokens; 0 if there is one."""
        refilled = (now - self._counted_at) * self._rate.per_second
        self._left, self._counted_at = min(self._rate.burst, self._left + refilled), now
        missing = 1 + reserve - self._left
        if missing <= 0:
            return 0.0
        return missing / self._rate.per_second if self._rate.per_second else math.inf

    def take(self) -> None:
        """Take one token."""
        self._left -= 1


class CallBudget:
    """Counts the calls of one process; shared by threads. `clock` is monotonic, in seconds.

    A tenth of the whole is reserved for nonces and sign-outs, so that a peak of new users does not
    lock out returning users. Published keys come from another host and have a separate limit.
    """

    def __init__(self, whole: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._reserve = int(whole.burst * 0.1)
        self._whole, self._keys = _Bucket(whole, clock()), _Bucket(KEYS, clock())
        self._shares = {share: _Bucket(rate, clock()) for share, rate in shares_of(whole).items()}
        self._lock = threading.Lock()

    def take(self, share: Share) -> None:
        """Charge one call, or raise ProviderUnavailableError with the time to wait."""
        with self._lock:
            seconds = self._seconds_until_next(share)
            if seconds:
                raise ProviderUnavailableError("the budget of calls is spent", seconds)
            for bucket, _ in self._limits(share):
                bucket.take()

    def has_call(self, share: Share) -> bool:
        """Whether a call of this share could be charged now."""
        with self._lock:
            return self._seconds_until_next(share) == 0

    def _seconds_until_next(self, share: Share) -> float:
        now, limits = self._clock(), self._limits(share)
        return max(bucket.seconds_until_next(now, kept) for bucket, kept in limits)

    def _limits(self, share: Share) -> list[tuple[_Bucket, int]]:
        """Return the buckets that a call of this share uses, each with its reserve."""
        if share is Share.KEYS:
            return [(self._keys, 0)]
        is_reserved = share in (Share.ANONYMOUS, Share.SIGN_OUT)
        whole = (self._whole, 0 if is_reserved else self._reserve)
        share_bucket = self._shares.get(share)
        return [whole] if share_bucket is None else [whole, (share_bucket, 0)]
