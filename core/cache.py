"""Text-only cache backends for Flask-Caching, and a client that pauses after a failure.

Both backends support *versioned* values. A value is stored under a version, and the version may be
marked as confirmed for a few seconds: it has just been compared with its source. The newest version
of a key never decreases, so that a late store of an older version changes nothing.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, cast

import structlog
from cachelib.serializers import RedisSerializer
from flask import Flask
from flask_caching import Cache
from flask_caching.backends.base import BaseCache
from flask_caching.backends.rediscache import RedisCache

log = structlog.get_logger(__name__)

BYPASS_SECONDS = 1.0  # after a failure, so that few requests wait for a cache that hangs
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

# KEYS: list of the owner's keys, key of the value. ARGV: the value, its TTL in s, the limit.
PUT_LIMITED = """
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
redis.call('LPUSH', KEYS[1], KEYS[2])
redis.call('EXPIRE', KEYS[1], ARGV[2])
while redis.call('LLEN', KEYS[1]) > tonumber(ARGV[3]) do
    redis.call('DEL', redis.call('RPOP', KEYS[1]))
end
"""

Answer = TypeVar("Answer")


class CacheUnavailableError(Exception):
    """The cache cannot be used now; everything in it can be read from the database."""


class Versioned(NamedTuple):
    """The entries of a key: its newest version, confirmed version and value (of any version)."""

    newest: int | None
    confirmed: int | None
    value: str | None


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
    """Flask-Caching's Redis backend with text instead of pickles, and with versioned values."""

    serializer = TextSerializer()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._put_version = self._write_client.register_script(PUT_VERSION)
        self._put_limited = self._write_client.register_script(PUT_LIMITED)

    def get_versioned(self, key: str, value_key: str) -> Versioned:
        """Read the versions of the key and one of its values, in one round trip."""
        newest, confirmed, value = self.get_many(*_version_keys(key), value_key)
        return Versioned(_parse_version(newest), _parse_version(confirmed), value)

    def put_version(
        self,
        key: str,
        version: int,
        *,
        confirmed_seconds: float = 0.0,
        value: tuple[str, str, int] | None = None,
    ) -> None:
        """Make the version the newest of the key and store a value under it, in one round trip.

        `confirmed_seconds`: for how long the version counts as just compared with its source.
        `value`: its key, its text and its TTL in seconds. Does nothing where a newer version is
        stored.
        """
        value_key, *text = value or (key,)
        keys = [self._get_prefix() + name for name in (*_version_keys(key), value_key)]
        args = [version, VERSION_TTL_SECONDS, _milliseconds(confirmed_seconds), *text]
        self._put_version(keys=keys, args=args)

    def raise_versions(self, versions: Mapping[str, int]) -> None:
        """Make each version the newest of its key, in one round trip."""
        with self._write_client.pipeline(transaction=False) as pipeline:
            for key, version in versions.items():
                keys = [self._get_prefix() + name for name in (*_version_keys(key), key)]
                self._put_version(
                    keys=keys, args=[version, VERSION_TTL_SECONDS, 0], client=pipeline
                )
            pipeline.execute()

    def put_limited(self, owner: str, key: str, value: str, *, limit: int, seconds: int) -> None:
        """Store a value for `seconds`; of each owner only the newest `limit` values are kept."""
        keys = [self._get_prefix() + name for name in (owner, key)]
        self._put_limited(keys=keys, args=[value, seconds, limit])

    def delete_owner(self, key: str, owner: str, value_keys: Sequence[str]) -> None:
        """Delete the versions of `key`, these values, and those that `put_limited` has stored."""
        prefix = self._get_prefix()
        names = [prefix + name for name in (*_version_keys(key), *value_keys, owner)]
        limited = self._write_client.lrange(prefix + owner, 0, -1)
        self._write_client.delete(*names, *limited)


class LocalStore(BaseCache):
    """An LRU cache inside this process; a full one drops entries before their TTL.

    Each operation takes constant time (cachelib's SimpleCache sorts all entries once it is full).
    """

    def __init__(self, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(default_timeout=300)
        self.clock = clock
        self._capacity = capacity
        self._entries: OrderedDict[str, tuple[float, Any]] = OrderedDict()
        self._lock = threading.Lock()

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
        with self._lock:
            self._set(key, value, self.default_timeout if timeout is None else timeout)
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

    def get_versioned(self, key: str, value_key: str) -> Versioned:
        """As `RedisStore.get_versioned`."""
        newest, confirmed = _version_keys(key)
        with self._lock:
            return Versioned(self._get(newest), self._get(confirmed), self._get(value_key))

    def put_version(
        self,
        key: str,
        version: int,
        *,
        confirmed_seconds: float = 0.0,
        value: tuple[str, str, int] | None = None,
    ) -> None:
        """As `RedisStore.put_version`."""
        newest, confirmed = _version_keys(key)
        with self._lock:
            if (self._get(newest) or 0) > version:
                return
            self._set(newest, version, VERSION_TTL_SECONDS)
            if value is not None:
                self._set(*value)
            if confirmed_seconds > 0:
                self._set(confirmed, version, confirmed_seconds)

    def raise_versions(self, versions: Mapping[str, int]) -> None:
        """As `RedisStore.raise_versions`."""
        for key, version in versions.items():
            self.put_version(key, version)

    def put_limited(self, owner: str, key: str, value: str, *, limit: int, seconds: int) -> None:
        """As `RedisStore.put_limited`."""
        with self._lock:
            kept = [key, *(self._get(owner) or ())]
            for dropped in kept[limit:]:
                self._entries.pop(dropped, None)
            self._set(key, value, seconds)
            self._set(owner, tuple(kept[:limit]), seconds)

    def delete_owner(self, key: str, owner: str, value_keys: Sequence[str]) -> None:
        """As `RedisStore.delete_owner`."""
        with self._lock:
            limited = self._get(owner) or ()
            for name in (*_version_keys(key), *value_keys, owner, *limited):
                self._entries.pop(name, None)

    def _get(self, key: str) -> Any:
        expires_at, value = self._entries.get(key, (0.0, None))
        if value is None:
            return None
        if self.clock() >= expires_at:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return value

    def _set(self, key: str, value: Any, seconds: float) -> None:
        self._entries[key] = (self.clock() + seconds, value)
        self._entries.move_to_end(key)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)


@dataclass(slots=True)
class CacheClient:
    """Calls a Flask-Caching cache unless it has just failed; shared by an app's threads.

    The pause is fixed and needs no probe, so that the hot path takes no lock of a CircuitBreaker.
    `clock` is monotonic, in seconds.
    """

    cache: Cache
    clock: Callable[[], float] = time.monotonic
    _skipped_until: float = field(default=0.0, repr=False)

    @property
    def backend(self) -> RedisStore | LocalStore:
        """The store behind the cache of the current app."""
        return cast(RedisStore | LocalStore, self.cache.cache)

    def call(self, operation: Callable[[], Answer]) -> Answer:
        """Run the operation and return its result; every error becomes CacheUnavailableError."""
        if self.clock() < self._skipped_until:
            raise CacheUnavailableError
        try:
            return operation()
        except Exception as err:  # no failure of the cache may fail a request
            self._skipped_until = self.clock() + BYPASS_SECONDS
            log.warning("cache_error", error=type(err).__name__)
            raise CacheUnavailableError from err


def _version_keys(key: str) -> tuple[str, str]:
    return f"version:{key}", f"confirmed:{key}"


def _parse_version(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _milliseconds(seconds: float) -> int:
    return max(0, int(seconds * 1000))
