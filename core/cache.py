"""Text-only cache backends for Flask-Caching, with versioned values and rate limits.

Both backends support *versioned* values. A value is stored under a version, and the version may be
marked as confirmed for a few seconds: it has just been compared with its source. The newest version
of a key never decreases, so that a late store of an older version changes nothing.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import structlog
from cachelib.serializers import RedisSerializer
from flask import Flask
from flask_caching.backends.base import BaseCache
from flask_caching.backends.rediscache import RedisCache

from core.circuit_breaker import CircuitBreaker, CircuitOpenError

log = structlog.get_logger(__name__)

PAUSE_SECONDS = 1.0  # after a failure, so that few requests wait for a Redis that hangs
ROUNDING_SECONDS = 0.001  # of sums of floating-point numbers
SCAN_KEYS = 1_000  # in a step, so that Redis answers others meanwhile
VERSION_TTL_SECONDS = 7 * 86_400  # longer than any value that is stored under a version

# KEYS: newest version, confirmed version, value. ARGV: version, its TTL in s, TTL of the
# confirmation in ms, then the value and its TTL in s, if a value is to be stored.
PUT_VERSION = """
local newest = tonumber(redis.call('GET', KEYS[1]) or '-1') or -1
local version = tonumber(ARGV[1])
if newest > version then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
if ARGV[4] then redis.call('SET', KEYS[3], ARGV[4], 'EX', ARGV[5]) end
if tonumber(ARGV[3]) > 0 then redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3]) end
return 1
"""

# The generic cell rate algorithm (GCRA). KEYS[1] is its theoretical arrival time: when the bucket
# is full again. ARGV: seconds for each request, burst, tokens wanted. Takes one token where the
# limit does not allow all; a millisecond of rounding does not count. The other keys are read.
TAKE_AND_READ = """
local interval, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local latest = now + burst * interval
local arrival = math.min(latest, math.max(now, tonumber(redis.call('GET', KEYS[1]) or now) or now))
local taken = 0
for _, tokens in ipairs({wanted, 1}) do
    if taken == 0 and arrival + tokens * interval <= latest + 0.001 then taken = tokens end
end
if taken > 0 then
    local next_arrival = arrival + taken * interval
    redis.call('SET', KEYS[1], string.format('%.6f', next_arrival), 'PX',
               math.ceil((next_arrival - now) * 1000))
end
local found = {taken, tostring(arrival + interval - latest)}
for number = 2, #KEYS do found[number + 1] = redis.call('GET', KEYS[number]) end
return found
"""

# KEYS: list of the owner's keys, key of the value. ARGV: the value, its TTL in s, the limit.
PUT_LIMITED = """
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
redis.call('LPUSH', KEYS[1], KEYS[2])
redis.call('EXPIRE', KEYS[1], ARGV[2])
while redis.call('LLEN', KEYS[1]) > tonumber(ARGV[3]) do
    redis.call('DEL', redis.call('RPOP', KEYS[1]))
end
"""


class CacheUnavailableError(Exception):
    """The cache cannot be used now; everything in it can be read from the database."""


class TokenRequest(NamedTuple):
    """A request for tokens of a rate limit: its key, its seconds for each token, and its burst."""

    key: str
    interval: float
    burst: int
    tokens: int


class TokenGrant(NamedTuple):
    """The tokens that a rate limit gave; with none, the seconds until there is one."""

    tokens: int
    wait_seconds: float


class VersionKeys(NamedTuple):
    """The keys of the newest version, of the confirmed version, and of the value under it."""

    newest: str
    confirmed: str
    value: str


class TextSerializer(RedisSerializer):
    """Stores text instead of pickles, so that data in Redis is never executed."""

    def dumps(self, value: Any, protocol: int = 0) -> bytes:  # noqa: ARG002 - cachelib's name
        """Encode the text, or the number as text; raises TypeError for anything else."""
        if not isinstance(value, str | int):
            raise TypeError(f"the cache holds text, not {type(value).__name__}")
        return str(value).encode("utf-8", "surrogatepass")

    def loads(self, value: bytes | None) -> str | None:
        """Decode the text; None for no value and for bytes that are not UTF-8."""
        try:
            return None if value is None else value.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return None


class RedisStore(RedisCache):
    """Flask-Caching's Redis backend with text instead of pickles, and with versioned values.

    Every method of this class is one round trip. After a failure all of them raise
    CacheUnavailableError without calling Redis, until a probe by one of them succeeds. Only those
    that end wrong values are always tried.
    """

    serializer = TextSerializer()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.circuit = CircuitBreaker(PAUSE_SECONDS, PAUSE_SECONDS)
        self._prefix = self._get_prefix()
        self._put_version = self._write_client.register_script(PUT_VERSION)
        self._put_limited = self._write_client.register_script(PUT_LIMITED)
        self._take_and_read = self._write_client.register_script(TAKE_AND_READ)

    def read(self, keys: Sequence[str]) -> list[str | None]:
        """Return the values of these keys; None for a missing one."""
        found = self._attempt(self._read_client.mget, [self._prefix + key for key in keys])
        return [self.serializer.loads(value) for value in found]

    def take_and_read(
        self, wanted: TokenRequest, keys: Sequence[str]
    ) -> tuple[TokenGrant, list[str | None]]:
        """Take tokens from a rate limit and read these keys.

        Of a limit that does not allow so many tokens, one is taken if possible.
        """
        tokens, wait, *found = self._attempt(
            self._take_and_read,
            keys=[self._prefix + key for key in (wanted.key, *keys)],
            args=wanted[1:],
        )
        return TokenGrant(tokens, float(wait)), [self.serializer.loads(value) for value in found]

    def put_version(
        self,
        keys: VersionKeys,
        version: int,
        *,
        confirmed_seconds: float = 0.0,
        value: tuple[str, int] | None = None,
        is_change: bool = False,
    ) -> None:
        """Make the version the newest of these keys and store a value under it.

        `confirmed_seconds`: for how long the version counts as just compared with its source.
        `value`: its text and its TTL in seconds. `is_change`: older values are wrong by now. Does
        nothing where a newer version is stored.
        """
        confirmed_ms = max(0, int(confirmed_seconds * 1000))
        self._attempt(
            self._put_version,
            is_change=is_change,
            keys=[self._prefix + key for key in keys],
            args=[version, VERSION_TTL_SECONDS, confirmed_ms, *(value or ())],
        )

    def raise_versions(self, versions: Mapping[str, int]) -> None:
        """Make each version the newest under its key (`VersionKeys.newest`)."""
        with self._write_client.pipeline(transaction=False) as pipeline:
            for key, version in versions.items():
                args = [version, VERSION_TTL_SECONDS, 0]
                self._put_version(keys=[self._prefix + key], args=args, client=pipeline)
            self._attempt(pipeline.execute, is_change=True)

    def put_limited(self, owner: str, key: str, value: str, *, limit: int, seconds: int) -> None:
        """Store a value for `seconds`; of each owner only the newest `limit` values are kept."""
        keys = [self._prefix + name for name in (owner, key)]
        self._attempt(self._put_limited, keys=keys, args=[value, seconds, limit])

    def put(self, key: str, value: str, seconds: int) -> None:
        """Store a value for `seconds`."""
        self._attempt(self._write_client.set, self._prefix + key, value, ex=seconds)

    def remove(self, *keys: str, owners: Sequence[str] = ()) -> None:
        """Remove values, and those that `put_limited` has stored for these owners."""
        names = [self._prefix + name for name in (*keys, *owners)]
        for owner in owners:
            name = self._prefix + owner
            names += self._attempt(self._write_client.lrange, name, 0, -1, is_change=True)
        self._attempt(self._write_client.delete, *names, is_change=True)

    def _attempt(
        self, operation: Callable[..., Any], *args: Any, is_change: bool = False, **options: Any
    ) -> Any:
        """Run an operation of the client; every error becomes CacheUnavailableError.

        `is_change`: it ends values that are wrong by now, so that it is tried although Redis has
        just failed. Redis may be back, and other processes would still use these values.
        """
        try:
            self.circuit.check(may_probe=is_change)
            self.circuit.note_call()
            answer = operation(*args, **options)
        except CircuitOpenError as err:
            raise CacheUnavailableError from err
        except Exception as err:  # no failure of the cache may fail a request
            self.circuit.note_failure()
            log.warning("cache_error", error=type(err).__name__)
            raise CacheUnavailableError from err
        self.circuit.note_success()
        return answer

    def remove_all(self) -> int:
        """Remove every key of this program, in small steps; returns how many there were."""
        keys = self._write_client.scan_iter(match=f"{self._prefix}*", count=SCAN_KEYS)
        removed = 0
        while batch := list(islice(keys, SCAN_KEYS)):
            removed += int(self._write_client.unlink(*batch))
        return removed


class LocalStore(BaseCache):
    """An LRU cache inside this process; a full one drops entries before their TTL.

    Each operation takes constant time (cachelib's SimpleCache sorts all entries once it is full).
    """

    def __init__(self, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(default_timeout=300)
        self.clock = clock
        self._capacity = capacity
        self._entries: OrderedDict[str, tuple[float, Any]] = OrderedDict()
        self._lock = threading.RLock()

    @classmethod
    def factory(cls, _app: Flask, config: dict[str, Any], *_: Any) -> "LocalStore":
        """Build the backend from Flask-Caching's settings (CACHE_THRESHOLD is its capacity)."""
        return cls(config["CACHE_THRESHOLD"])

    def get(self, key: str) -> Any:
        """Return the value, or None."""
        with self._lock:
            return self._get(key)

    def set(self, key: str, value: Any, timeout: Any = None) -> bool:
        """Store a value for `timeout` seconds."""
        seconds = self.default_timeout if timeout is None else timeout
        with self._lock:
            self._entries[key] = (self.clock() + seconds, value)
            self._entries.move_to_end(key)
            if len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
        return True

    def delete(self, key: str) -> bool:
        """Remove a value; returns whether there was one."""
        with self._lock:
            return self._entries.pop(key, None) is not None

    def clear(self) -> bool:
        """Remove everything."""
        with self._lock:
            self._entries.clear()
        return True

    def read(self, keys: Sequence[str]) -> list[Any]:
        """As `RedisStore.read`."""
        with self._lock:
            return [self._get(key) for key in keys]

    def _get(self, key: str) -> Any:
        expires_at, value = self._entries.get(key, (0.0, None))
        if value is None:
            return None
        if self.clock() >= expires_at:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return value

    def take_and_read(
        self, wanted: TokenRequest, keys: Sequence[str]
    ) -> tuple[TokenGrant, list[Any]]:
        """As `RedisStore.take_and_read`."""
        with self._lock:
            now = self.clock()
            arrival = max(now, self._get(wanted.key) or 0.0)
            latest = now + wanted.burst * wanted.interval + ROUNDING_SECONDS
            counts = (n for n in (wanted.tokens, 1) if arrival + n * wanted.interval <= latest)
            tokens = next(counts, 0)
            if tokens:
                next_arrival = arrival + tokens * wanted.interval
                self.set(wanted.key, next_arrival, next_arrival - now)
            grant = TokenGrant(tokens, arrival + wanted.interval - latest)
            return grant, [self._get(key) for key in keys]

    def put_version(
        self,
        keys: VersionKeys,
        version: int,
        *,
        confirmed_seconds: float = 0.0,
        value: tuple[str, int] | None = None,
        is_change: bool = False,  # noqa: ARG002 - of RedisStore
    ) -> None:
        """As `RedisStore.put_version`."""
        with self._lock:
            if (self.get(keys.newest) or 0) > version:
                return
            self.set(keys.newest, version, VERSION_TTL_SECONDS)
            if value is not None:
                self.set(keys.value, *value)
            if confirmed_seconds > 0:
                self.set(keys.confirmed, version, confirmed_seconds)

    def raise_versions(self, versions: Mapping[str, int]) -> None:
        """As `RedisStore.raise_versions`."""
        with self._lock:
            for key, version in versions.items():
                self.set(key, max(version, self.get(key) or 0), VERSION_TTL_SECONDS)

    def put_limited(self, owner: str, key: str, value: str, *, limit: int, seconds: int) -> None:
        """As `RedisStore.put_limited`."""
        with self._lock:
            kept = [key, *(self.get(owner) or ())]
            for dropped in kept[limit:]:
                self.delete(dropped)
            self.set(key, value, seconds)
            self.set(owner, tuple(kept[:limit]), seconds)

    def put(self, key: str, value: str, seconds: int) -> None:
        """As `RedisStore.put`."""
        self.set(key, value, seconds)

    def remove(self, *keys: str, owners: Sequence[str] = ()) -> None:
        """As `RedisStore.remove`."""
        with self._lock:
            limited = [name for owner in owners for name in self.get(owner) or ()]
            for name in (*keys, *owners, *limited):
                self.delete(name)


Store = RedisStore | LocalStore
