"""Rate limits of users and client addresses: GCRA with bursts, and local batches of tokens.

With Redis all processes share the limits. A process takes tokens in batches that grow with the
caller's rate. A busy caller therefore does not need a round trip to Redis for each request.
"""

import enum
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from core.cache import CacheUnavailableError, LocalStore, Store, TokenRequest

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

    def use(self, key: Hashable) -> int:
        """Use one prefetched token and return 0; without one, return the size of the next batch.

        It is twice the last one, if that was used up in time.
        """
        with self._lock:
            batch = self._batches.get(key)
            if batch is None or batch.expires_at <= self._clock():
                return 1
            if batch.left:
                batch.left -= 1
                return 0
            return min(2 * batch.size, MAX_BATCH)

    def store(self, key: Hashable, size: int) -> None:
        """Add a batch of `size` tokens, one of which is used now."""
        with self._lock:
            now, last = self._clock(), self._batches.get(key)
            kept = last.left if last and last.expires_at > now else 0
            self._batches[key] = _Batch(size, kept + size - 1, now + BATCH_SECONDS)
            self._batches.move_to_end(key)
            if len(self._batches) > MAX_BATCHES:
                self._batches.popitem(last=False)


MAX_COUNTERS = 50_000  # of users and addresses; the least recently used are dropped first


class LimitKind(enum.Enum):
    """What is counted, each separately (docs/reference/contract.md#bounds)."""

    USER = "person"
    ENSURE = "ensure"
    ADDRESS = "address"


class RateLimiter:
    """Counts requests by kind and caller; one for an app, shared by its threads.

    With Redis the limits are shared by all processes. While it is away each process counts by
    itself, so that requests are still limited.
    """

    def __init__(self, per_minute: int, ensures_per_minute: int, store: Store) -> None:
        self._quotas = {
            LimitKind.USER: (60 / per_minute, max(1, per_minute // 3)),
            LimitKind.ENSURE: (60 / ensures_per_minute, 2 * ensures_per_minute),
            # Many users may share one address and arrive at once.
            LimitKind.ADDRESS: (60 / per_minute, per_minute),
        }
        self._store = store
        self._local = LocalStore(MAX_COUNTERS)
        self._prefetch = TokenPrefetch()

    def hit(self, kind: LimitKind, caller: str) -> float:
        """Count one request; returns the seconds to wait, 0 if the request is allowed."""
        return self.hit_and_read(kind, caller, ())[0]

    def hit_and_read(
        self, kind: LimitKind, caller: str, keys: Sequence[str]
    ) -> tuple[float, Sequence[Any] | None]:
        """As `hit`, and return the values of these keys of the cache; None without them.

        With Redis both are one round trip. A caller with many requests takes several tokens at
        once; near the limit it gets only one. Redis gets a digest of the caller: no user id.
        """
        digest = blake2b(caller.encode("utf-8", "surrogatepass"), digest_size=16)
        key = f"limit:{kind.value}:{digest.hexdigest()}"
        found: Sequence[Any] | None = None
        try:
            if isinstance(self._store, LocalStore):
                found = self._store.read(keys)
            elif (size := self._prefetch.use(key)) == 0:
                return 0.0, self._store.read(keys) if keys else ()
            else:
                wanted = TokenRequest(key, *self._quotas[kind], size)
                taken, found = self._store.take_and_read(wanted, keys)
                if not taken.tokens:
                    return taken.wait_seconds, None
                self._prefetch.store(key, taken.tokens)
                return 0.0, found
        except CacheUnavailableError:
            pass  # this process counts by itself until Redis is back
        taken, _ = self._local.take_and_read(TokenRequest(key, *self._quotas[kind], 1), ())
        return (0.0 if taken.tokens else taken.wait_seconds), found
