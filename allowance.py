"""How much one person, or one address, may ask of us: a steady rate with bursts, then a pause."""

import enum
from collections.abc import Callable
from typing import Any

from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NotReachedError
from redis.retry import Retry
from throttled import MemoryStore, RateLimiterType, RedisStore, Throttled, rate_limiter
from throttled.store import BaseStore

from core.cache import CacheUnavailableError
from leases import Leases

REDIS_TIMEOUT_SECONDS = 0.1  # a hanging Redis must not cost more than the limit is worth
KNOWN_AT_ONCE = 50_000  # people and addresses; the longest silent are forgotten first


class Purse(enum.Enum):
    """What is counted, each for itself (CONTRACT section 8)."""

    PERSON = "person"
    ENSURE = "ensure"
    ADDRESS = "address"


class Allowances:
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
            Purse.PERSON: (per_minute, max(1, per_minute // 3)),
            Purse.ENSURE: (ensures_per_minute, 2 * ensures_per_minute),
            # Many people may come from one address, and all of them at once.
            Purse.ADDRESS: (per_minute, per_minute),
        }
        self._own = _meters(quotas, MemoryStore(options={"MAX_SIZE": KNOWN_AT_ONCE}))
        self._shared = _meters(quotas, _redis(redis_url)) if redis_url else None
        self._ask = ask
        self._leases = Leases()

    def charge(self, purse: Purse, who: str) -> float:
        """Count one request; returns the seconds to wait, 0 for whoever may go on."""
        if self._shared is not None and self._leases.spend((purse, who)):
            return 0.0
        result = self._limit(purse, who)
        return float(result.state.retry_after) if result.limited else 0.0

    def _limit(self, purse: Purse, who: str) -> Any:
        if self._shared is not None and self._ask is not None:
            meter = self._shared[purse]
            try:
                return self._ask(lambda: self._granted(meter, purse, who))
            except CacheUnavailableError:
                pass  # each process for itself, until Redis is back
        return self._own[purse].limit(who)

    def _granted(self, meter: Throttled, purse: Purse, who: str) -> Any:
        """Ask for several requests at once on behalf of the busy; near the limit for just one."""
        size = self._leases.next_size((purse, who))
        result = meter.limit(who, size)
        if result.limited and size > 1:
            return meter.limit(who)
        if not result.limited:
            self._leases.grant((purse, who), size)
        return result


def _meters(quotas: dict[Purse, tuple[int, int]], store: BaseStore) -> dict[Purse, Throttled]:
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
