"""The cache backends: text only, versions never decrease, a bounded store in the process."""

from collections.abc import Iterator

import pytest
from flask import Flask
from flask_caching import Cache
from redis import StrictRedis

from core.cache import (
    CacheClient,
    CacheUnavailableError,
    LocalStore,
    RedisStore,
    TextSerializer,
)
from dev.servers import RedisServer, eventually
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
        yield CacheClient(cache).backend


def put(store: Store, version: int, text: str, confirmed_seconds: float = 5.0) -> None:
    store.put_version(
        "ana", version, confirmed_seconds=confirmed_seconds, value=("context:ana", text, 60)
    )


def test_value_is_stored_with_its_version(store: Store) -> None:
    put(store, 3, "três")

    assert store.get_versioned("ana", "context:ana") == (3, 3, "três")


def test_unknown_key_holds_nothing(store: Store) -> None:
    assert store.get_versioned("ana", "context:ana") == (None, None, None)


def test_older_version_changes_nothing(store: Store) -> None:
    put(store, 3, "new")

    put(store, 2, "old")
    store.raise_versions({"ana": 1})

    assert store.get_versioned("ana", "context:ana") == (3, 3, "new")


def test_older_value_is_unconfirmed_after_its_version_was_raised(store: Store) -> None:
    put(store, 3, "old")

    store.raise_versions({"ana": 4, "bia": 1})

    assert store.get_versioned("ana", "context:ana") == (4, 3, "old")
    assert store.get_versioned("bia", "context:bia").newest == 1


def test_version_can_be_stored_unconfirmed(store: Store) -> None:
    put(store, 3, "text", confirmed_seconds=0.0)

    assert store.get_versioned("ana", "context:ana") == (3, None, "text")


def test_confirmation_expires(store: Store) -> None:
    put(store, 3, "text", confirmed_seconds=0.05)

    assert eventually(lambda: store.get_versioned("ana", "context:ana") == (3, None, "text"))


def test_versions_of_milliseconds_are_compared_exactly(store: Store) -> None:
    put(store, 1_795_000_000_001, "new")

    put(store, 1_795_000_000_000, "old")

    assert store.get_versioned("ana", "context:ana").value == "new"


@pytest.mark.parametrize("invalid", ["x", "", "-1", "1e400", "None"])
def test_invalid_version_in_redis_is_ignored(redis: RedisServer, invalid: str) -> None:
    cache, app = Cache(), Flask(__name__)
    cache.init_app(app, {"CACHE_TYPE": "core.cache.RedisStore", "CACHE_REDIS_URL": redis.url})
    with StrictRedis.from_url(redis.url) as other:
        other.set("version:ana", invalid)
    with app.app_context():
        store = CacheClient(cache).backend

        assert store.get_versioned("ana", "context:ana").newest is None
        store.put_version("ana", 3)


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


def test_failed_cache_is_not_called_for_a_second() -> None:
    clock, calls = Clock(), []
    client = CacheClient(Cache(), clock)

    def fail() -> None:
        calls.append(1)
        raise ConnectionError

    for _ in range(3):
        with pytest.raises(CacheUnavailableError):
            client.call(fail)
    clock.seconds += 1
    with pytest.raises(CacheUnavailableError):
        client.call(fail)

    assert len(calls) == 2


def test_only_the_newest_values_of_a_user_are_kept(store: Store) -> None:
    for number in range(30):
        store.put_limited("ana", f"code:{number}", "text", limit=20, seconds=60)

    newest = [number for number in range(30) if store.get(f"code:{number}") is not None]
    assert newest == list(range(10, 30))
