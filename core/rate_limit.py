"""How much one person, or one address, may ask of us: a steady rate with bursts, then a pause."""

import enum
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NotReachedError
from redis.retry import Retry
from throttled import MemoryStore, RateLimiterType, RedisStore, Throttled, rate_limiter
from throttled.store import BaseStore

from core.cache import CacheUnavailableError

SECONDS = 1.0  # for which a grant holds
MOST = 16  # requests; more would save next to nothing
MOST_PREFETCHES = 10_000  # people; whoever is forgotten is granted one request at a time again


@dataclass(slots=True)
class _Prefetched:
    size: int
    left: int
    until: float


class TokenPrefetch:
    """What has been granted to whom; shared by an app's threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._grants: OrderedDict[Hashable, _Prefetched] = OrderedDict()
        self._lock = threading.Lock()

    def consume(self, who: Hashable) -> bool:
        """Use one of the requests that were granted ahead; whether there was one."""
        with self._lock:
            grant = self._grants.get(who)
            if grant is None or not grant.left or grant.until <= self._clock():
                return False
            grant.left -= 1
            return True

    def next_size(self, who: Hashable) -> int:
        """How many requests to ask for: twice as many for whoever has used up the last in time."""
        with self._lock:
            last = self._grants.get(who)
            if last is None or last.left or last.until <= self._clock():
                return 1
            return min(2 * last.size, MOST)

    def store(self, who: Hashable, size: int) -> None:
        """Note that so many more were granted, of which one is used up now."""
        with self._lock:
            now, last = self._clock(), self._grants.get(who)
            kept = last.left if last and last.until > now else 0
            self._grants[who] = _Prefetched(size, kept + size - 1, now + SECONDS)
            self._grants.move_to_end(who)
            if len(self._grants) > MOST_PREFETCHES:
                self._grants.popitem(last=False)


REDIS_TIMEOUT_SECONDS = 0.1  # a hanging Redis must not cost more than the limit is worth
MOST_COUNTERS = 50_000  # people and addresses; the longest silent are forgotten first


class LimitKind(enum.Enum):
    """What is counted, each for itself (CONTRACT section 8)."""

    USER = "person"
    ENSURE = "ensure"
    ADDRESS = "address"


class RateLimiter:
    """One for an app, shared by its threads; with Redis shared by all processes.

    `ask` puts a question to Redis unless it has just failed, and raises CacheUnavailableError:
    each process then counts for itself, so that neither an outage nor an abuser is let through.
    """

    def __init__(
        self,
        per_minute: int,
        ensures_per_minute: int,
        *,
        redis_url: str | None = None,
        ask: Callable[[Callable[[], Any]], Any] | None = None,
    ) -> None:
        quotas = {
            LimitKind.USER: (per_minute, max(1, per_minute // 3)),
            LimitKind.ENSURE: (ensures_per_minute, 2 * ensures_per_minute),
            # Many people may come from one address, and all of them at once.
            LimitKind.ADDRESS: (per_minute, per_minute),
        }
        self._own = _meters(quotas, MemoryStore(options={"MAX_SIZE": MOST_COUNTERS}))
        self._shared = _meters(quotas, _redis(redis_url)) if redis_url else None
        self._ask = ask
        self._leases = TokenPrefetch()

    def hit(self, purse: LimitKind, who: str) -> float:
        """Count one request; returns the seconds to wait, 0 for whoever may go on."""
        if self._shared is not None and self._leases.consume((purse, who)):
            return 0.0
        result = self._limit(purse, who)
        return float(result.state.retry_after) if result.limited else 0.0

    def _limit(self, purse: LimitKind, who: str) -> Any:
        if self._shared is not None and self._ask is not None:
            meter = self._shared[purse]
            try:
                return self._ask(lambda: self._granted(meter, purse, who))
            except CacheUnavailableError:
                pass  # each process for itself, until Redis is back
        return self._own[purse].limit(who)

    def _granted(self, meter: Throttled, purse: LimitKind, who: str) -> Any:
        """Ask for several requests at once on behalf of the busy; near the limit for just one."""
        size = self._leases.next_size((purse, who))
        result = meter.limit(who, size)
        if result.limited and size > 1:
            return meter.limit(who)
        if not result.limited:
            self._leases.store((purse, who), size)
        return result


def _meters(
    quotas: dict[LimitKind, tuple[int, int]], store: BaseStore
) -> dict[LimitKind, Throttled]:
    return {
        purse: Throttled(
            using=RateLimiterType.GCRA.value,
            quota=rate_limiter.per_min(rate, burst=burst),
            store=store,
            key_prefix=f"neon:{purse.value}",
        )
        for purse, (rate, burst) in quotas.items()
    }


def _redis(url: str) -> RedisStore:
    options = {
        "socket_timeout": REDIS_TIMEOUT_SECONDS,
        "socket_connect_timeout": REDIS_TIMEOUT_SECONDS,
        # A connection of before a restart is worth another try; a silence is not.
        "retry": Retry(NoBackoff(), 1, supported_errors=(NotReachedError,)),
    }
    return RedisStore(server=url, options={"CONNECTION_POOL_KWARGS": options})
