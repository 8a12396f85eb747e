"""The cache backends: text only, versions never decrease, a bounded store in the process."""

import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, cast

import pytest
from flask import Flask
from flask_caching import Cache
from redis import Redis, StrictRedis
from redis.backoff import NoBackoff
from redis.retry import Retry
from structlog.testing import capture_logs

from benchmarks.servers import RedisServer, eventually, free_port
from core.cache import (
    PAUSE_SECONDS,
    CacheUnavailableError,
    LocalStore,
    RedisStore,
    TextSerializer,
    TokenRequest,
    VersionKeys,
)
from core.circuit_breaker import CircuitBreaker, CircuitOpenError
from tests.support.concurrency import Clock

Store = LocalStore | RedisStore


@pytest.fixture(params=["local", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Each backend, as Flask-Caching creates it."""
    app, cache = Flask(__name__), Cache()
    if request.param == "local":
        settings = {"CACHE_TYPE": "core.cache.LocalStore", "CACHE_THRESHOLD": 100}
    else:
        server: RedisServer = request.getfixturevalue("redis")
        settings = {"CACHE_TYPE": "core.cache.RedisStore", "CACHE_REDIS_URL": server.url}
    cache.init_app(app, settings)
    with app.app_context():
        yield cast(Store, cache.cache)


class Versioned(NamedTuple):
    """What the store has of a key."""

    newest: int | None
    confirmed: int | None
    value: str | None


def versioned(store: Store, key: str) -> Versioned:
    """Return the newest version, the confirmed version and the value of a key."""
    return parsed(store.read(keys_of(key)))


def keys_of(key: str) -> VersionKeys:
    return VersionKeys(f"version:{key}", f"confirmed:{key}", f"context:{key}")


def parsed(found: Sequence[Any]) -> Versioned:
    newest, confirmed, value = found
    return Versioned(number(newest), number(confirmed), value)


def number(stored: str | int | None) -> int | None:
    return int(stored) if stored is not None and str(stored).isdecimal() else None


def put(store: Store, version: int, text: str, confirmed_seconds: float = 5.0) -> None:
    store.put_version(
        keys_of("ana"), version, confirmed_seconds=confirmed_seconds, value=(text, 60)
    )


def test_value_is_stored_with_its_version(store: Store) -> None:
    put(store, 3, "três")

    assert versioned(store, "ana") == (3, 3, "três")


def test_unknown_key_holds_nothing(store: Store) -> None:
    assert versioned(store, "ana") == (None, None, None)


def test_older_version_changes_nothing(store: Store) -> None:
    put(store, 3, "new")

    put(store, 2, "old")
    store.raise_versions({"version:ana": 1})

    assert versioned(store, "ana") == (3, 3, "new")


def test_older_value_is_unconfirmed_after_its_version_was_raised(store: Store) -> None:
    put(store, 3, "old")

    store.raise_versions({"version:ana": 4, "version:bia": 1})

    assert versioned(store, "ana") == (4, 3, "old")
    assert versioned(store, "bia").newest == 1


def test_version_can_be_stored_unconfirmed(store: Store) -> None:
    put(store, 3, "text", confirmed_seconds=0.0)

    assert versioned(store, "ana") == (3, None, "text")


def test_confirmation_expires(store: Store) -> None:
    put(store, 3, "text", confirmed_seconds=0.05)

    assert eventually(lambda: versioned(store, "ana") == (3, None, "text"))


def test_versions_of_milliseconds_are_compared_exactly(store: Store) -> None:
    put(store, 1_795_000_000_001, "new")

    put(store, 1_795_000_000_000, "old")

    assert versioned(store, "ana").value == "new"


@pytest.mark.parametrize("invalid", ["x", "", "-1", "1e400", "None"])
def test_invalid_version_in_redis_is_ignored(redis: RedisServer, invalid: str) -> None:
    cache, app = Cache(), Flask(__name__)
    cache.init_app(app, {"CACHE_TYPE": "core.cache.RedisStore", "CACHE_REDIS_URL": redis.url})
    with StrictRedis.from_url(redis.url) as other:
        other.set("version:ana", invalid)
    with app.app_context():
        store = cast(Store, cache.cache)

        assert versioned(store, "ana").newest is None
        store.put_version(keys_of("ana"), 3)


def test_pickle_in_redis_is_never_loaded(redis: RedisServer) -> None:
    cache, app = Cache(), Flask(__name__)
    cache.init_app(app, {"CACHE_TYPE": "core.cache.RedisStore", "CACHE_REDIS_URL": redis.url})
    with StrictRedis.from_url(redis.url) as other:
        other.set("context:ana", b"!\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94.")
    with app.app_context():
        assert cache.get("context:ana") is None


@pytest.mark.parametrize("value", [b"bytes", object(), {"a": 1}, None])
def test_serializer_takes_text_only(value: object) -> None:
    with pytest.raises(TypeError):
        TextSerializer().dumps(value)


def test_least_recently_used_entry_is_evicted_first() -> None:
    store = LocalStore(2)
    store.set("a", "1"), store.set("b", "2")
    store.get("a")

    store.set("c", "3")

    assert [store.get(key) for key in "abc"] == ["1", None, "3"]


def test_entry_expires() -> None:
    clock = Clock()
    store = LocalStore(2, clock)
    store.set("a", "1", timeout=10)
    clock.seconds += 10

    assert store.get("a") is None


def redis_store(url: str, clock: Clock) -> RedisStore:
    store = RedisStore(Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=10))
    store.circuit = CircuitBreaker(PAUSE_SECONDS, PAUSE_SECONDS, clock)
    return store


def test_failed_redis_is_not_called_for_a_second(clock: Clock) -> None:
    store = redis_store(f"redis://127.0.0.1:{free_port()}", clock)
    with capture_logs() as logs:
        for seconds in (0.0, 0.0, 0.9, 0.1):
            clock.seconds += seconds
            with pytest.raises(CacheUnavailableError):
                store.read(["key"])

    assert [line["event"] for line in logs] == ["cache_error"] * 2


def test_redis_is_used_again_after_a_second(redis: RedisServer, clock: Clock) -> None:
    store = redis_store(redis.url, clock)
    store.put("owner", "text", 60)
    with pytest.raises(CacheUnavailableError):
        store.put_limited("owner", "key", "text", limit=1, seconds=60)  # the owner has no list
    with pytest.raises(CacheUnavailableError):
        store.read(["owner"])

    clock.seconds += PAUSE_SECONDS

    assert [store.read(["owner"]) for _ in range(3)] == [["text"]] * 3


def test_change_is_published_although_redis_has_just_failed(
    redis: RedisServer, clock: Clock
) -> None:
    store = redis_store(redis.url, clock)
    put(store, 3, "old")
    store.put("stale", "text", 60)

    store.circuit.note_failure()
    store.raise_versions({"version:ana": 4})
    store.circuit.note_failure()
    store.put_version(keys_of("bia"), 2, is_change=True)
    store.circuit.note_failure()
    store.remove("stale")

    assert versioned(store, "ana") == (4, 3, "old")
    assert (versioned(store, "bia").newest, store.read(["stale"])) == (2, [None])


def test_other_threads_are_refused_while_one_probes_a_failed_redis(clock: Clock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor() as threads:
        store = redis_store(f"redis://127.0.0.1:{silent.getsockname()[1]}", clock)
        store.circuit.note_failure()
        clock.seconds += PAUSE_SECONDS
        probe = threads.submit(store.read, ["key"])
        connection, _ = silent.accept()

        with pytest.raises(CacheUnavailableError) as caught:
            store.read(["key"])

        connection.close()
        silent.close()
        assert isinstance(caught.value.__cause__, CircuitOpenError)
        assert isinstance(probe.exception(), CacheUnavailableError)


PER_SECOND = TokenRequest("limit", 1.0, 5, 1)  # one token a second, five at once


def test_burst_is_taken_and_no_more(store: Store) -> None:
    taken = [store.take_and_read(PER_SECOND, ())[0] for _ in range(6)]

    assert [each.tokens for each in taken] == [1, 1, 1, 1, 1, 0]
    assert 0.5 < taken[-1].wait_seconds <= 1.0


def test_several_tokens_are_taken_at_once(store: Store) -> None:
    counts = [store.take_and_read(PER_SECOND._replace(tokens=n), ())[0].tokens for n in (4, 4, 1)]

    assert counts == [4, 1, 0]  # one, where the limit does not allow four


def test_taken_tokens_come_back_with_time(clock: Clock) -> None:
    store = LocalStore(10, clock)
    for _ in range(5):
        store.take_and_read(PER_SECOND, ())
    clock.seconds += 2.0

    assert [store.take_and_read(PER_SECOND, ())[0].tokens for _ in range(3)] == [1, 1, 0]


def test_keys_are_read_with_the_limit(store: Store) -> None:
    put(store, 3, "text")

    _, found = store.take_and_read(PER_SECOND, keys_of("ana"))

    assert found is not None
    assert parsed(found) == (3, 3, "text")
    assert store.take_and_read(PER_SECOND, ["missing"])[1] == [None]


@pytest.mark.parametrize("invalid", ["x", "", "nan", "1e400", "9999999999.5"])
def test_limit_with_an_invalid_value_in_redis_ends(redis: RedisServer, invalid: str) -> None:
    with Redis.from_url(redis.url) as other:
        other.set("limit", invalid)
    store = RedisStore(Redis.from_url(redis.url))

    taken = store.take_and_read(PER_SECOND._replace(interval=0.01), ())[0]

    assert taken.tokens == 1 or taken.wait_seconds < 0.05


def test_only_the_newest_values_of_a_user_are_kept(store: Store) -> None:
    for number in range(30):
        store.put_limited("ana", f"code:{number}", "text", limit=20, seconds=60)

    newest = [number for number in range(30) if store.get(f"code:{number}") is not None]
    assert newest == list(range(10, 30))
