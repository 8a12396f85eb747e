"""Rate limits of users and client addresses: GCRA with bursts, and local batches of tokens.

With Redis all processes share the limits. A process takes tokens in batches that grow with the
caller's rate. A busy caller therefore does not need a round trip to Redis for each request.
"""

import enum
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NotReachedError
from redis.retry import Retry
from throttled import MemoryStore, RateLimiterType, RedisStore, Throttled, rate_limiter
from throttled.store import BaseStore

from core.cache import CacheUnavailableError

BATCH_SECONDS = 1.0  # after which a batch expires
MAX_BATCH = 16  # tokens; larger batches would save next to nothing
MAX_BATCHES = 10_000  # callers; a dropped one starts again with one token at a time


@dataclass(slots=True)
class _Batch:
    size: int
    left: int
    expires_at: float


class TokenPrefetch:
    """Tokens taken from the shared limit ahead of use, by caller; shared by an app's threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._batches: OrderedDict[Hashable, _Batch] = OrderedDict()
        self._lock = threading.Lock()

    def consume(self, key: Hashable) -> bool:
        """Use one prefetched token; returns whether there was one."""
        with self._lock:
            batch = self._batches.get(key)
            if batch is None or not batch.left or batch.expires_at <= self._clock():
                return False
            batch.left -= 1
            return True

    def next_size(self, key: Hashable) -> int:
        """Return the size of the next batch: twice the last one if that was used up in time."""
        with self._lock:
            last = self._batches.get(key)
            if last is None or last.left or last.expires_at <= self._clock():
                return 1
            return min(2 * last.size, MAX_BATCH)

    def store(self, key: Hashable, size: int) -> None:
        """Add a batch of `size` tokens, one of which is used now."""
        with self._lock:
            now, last = self._clock(), self._batches.get(key)
            kept = last.left if last and last.expires_at > now else 0
            self._batches[key] = _Batch(size, kept + size - 1, now + BATCH_SECONDS)
            self._batches.move_to_end(key)
            if len(self._batches) > MAX_BATCHES:
                self._batches.popitem(last=False)


REDIS_TIMEOUT_SECONDS = 0.1  # a hanging Redis must not delay a request for longer
MAX_COUNTERS = 50_000  # of users and addresses; the least recently used are dropped first


class LimitKind(enum.Enum):
    """What is counted, each separately (docs/reference/contract.md#bounds)."""

    USER = "person"
    ENSURE = "ensure"
    ADDRESS = "address"


class RateLimiter:
    """Counts requests by kind and caller; one for an app, shared by its threads.

    With Redis the limits are shared by all processes. `call` runs a Redis operation unless Redis
    has just failed, and raises CacheUnavailableError. Each process then counts by itself, so that
    requests are still limited during an outage.
    """

    def __init__(
        self,
        per_minute: int,
        ensures_per_minute: int,
        *,
        redis_url: str | None = None,
        call: Callable[[Callable[[], Any]], Any] | None = None,
    ) -> None:
        quotas = {
            LimitKind.USER: (per_minute, max(1, per_minute // 3)),
            LimitKind.ENSURE: (ensures_per_minute, 2 * ensures_per_minute),
            # Many users may share one address and arrive at once.
            LimitKind.ADDRESS: (per_minute, per_minute),
        }
        self._local = _limiters(quotas, MemoryStore(options={"MAX_SIZE": MAX_COUNTERS}))
        self._shared = _limiters(quotas, _redis_store(redis_url)) if redis_url else None
        self._call = call
        self._prefetch = TokenPrefetch()

    def hit(self, kind: LimitKind, key: str) -> float:
        """Count one request; returns the seconds to wait, 0 if the request is allowed."""
        if self._shared is not None and self._prefetch.consume((kind, key)):
            return 0.0
        result = self._limit(kind, key)
        return float(result.state.retry_after) if result.limited else 0.0

    def _limit(self, kind: LimitKind, key: str) -> Any:
        if self._shared is not None and self._call is not None:
            limiter = self._shared[kind]
            try:
                return self._call(lambda: self._take_batch(limiter, kind, key))
            except CacheUnavailableError:
                pass  # this process counts by itself until Redis is back
        return self._local[kind].limit(key)

    def _take_batch(self, limiter: Throttled, kind: LimitKind, key: str) -> Any:
        """Take several tokens for a busy caller; near the limit only one.

        Redis gets a digest of the key, so that it holds no user ids.
        """
        size = self._prefetch.next_size((kind, key))
        shared_key = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        result = limiter.limit(shared_key, size)
        if result.limited and size > 1:
            return limiter.limit(shared_key)
        if not result.limited:
            self._prefetch.store((kind, key), size)
        return result


def _limiters(
    quotas: dict[LimitKind, tuple[int, int]], store: BaseStore
) -> dict[LimitKind, Throttled]:
    return {
        kind: Throttled(
            using=RateLimiterType.GCRA.value,
            quota=rate_limiter.per_min(rate, burst=burst),
            store=store,
            key_prefix=f"neon:{kind.value}",
        )
        for kind, (rate, burst) in quotas.items()
    }


def _redis_store(url: str) -> RedisStore:
    options = {
        "socket_timeout": REDIS_TIMEOUT_SECONDS,
        "socket_connect_timeout": REDIS_TIMEOUT_SECONDS,
        # A connection from before a restart of Redis is retried once; a timeout is not.
        "retry": Retry(NoBackoff(), 1, supported_errors=(NotReachedError,)),
    }
    return RedisStore(server=url, options={"CONNECTION_POOL_KWARGS": options})
