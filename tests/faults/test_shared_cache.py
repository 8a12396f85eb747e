"""With Redis, processes share contexts and cache versions."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from flask import Flask

from benchmarks.servers import RedisServer
from provisioning.context import RequestContext
from provisioning.context_cache import ContextCache
from tests.support.apps import create_app_on
from tests.support.users import BOB, NOW, PAGE, identity_of
from web.services import EXTENSION


@pytest.fixture
def two_apps(
    copy_database: Callable[[str], str], tmp_path: Path, redis: RedisServer
) -> Iterator[tuple[Flask, Flask]]:
    """Two apps, like two processes, on one database and one Redis."""
    url = copy_database(f"shared_{tmp_path.name}")
    with ExitStack() as stack:
        settings = {"redis_url": redis.url}
        first = stack.enter_context(create_app_on(tmp_path / "1", url, **settings))
        second = stack.enter_context(create_app_on(tmp_path / "2", url, **settings))
        yield first, second


def context_cache(app: Flask) -> ContextCache:
    contexts: ContextCache = app.extensions[EXTENSION].provisioning.contexts
    return contexts


def ensure_context(app: Flask) -> RequestContext:
    with app.app_context():
        service = app.extensions[EXTENSION].provisioning
        context: RequestContext = service.context_for(identity_of(BOB), source=PAGE, now=NOW)
        return context


def test_context_cached_by_one_process_is_read_by_the_other(two_apps: tuple[Flask, Flask]) -> None:
    first, second = two_apps
    created = ensure_context(first)

    with second.app_context():
        found = context_cache(second).get(identity_of(BOB))

    assert found is not None
    assert (found.user, found.mentorado) == (created.user, created.mentorado)


def test_version_published_by_one_process_invalidates_the_other_s_context(
    two_apps: tuple[Flask, Flask],
) -> None:
    first, second = two_apps
    created = ensure_context(first)

    with second.app_context():
        context_cache(second).publish_versions({BOB.clerk_id: (created.version or 0) + 1})

    with first.app_context():
        assert context_cache(first).get(identity_of(BOB)) is None


def test_change_is_seen_where_the_database_has_gone_since_its_commit(
    two_apps: tuple[Flask, Flask], tmp_path: Path, redis: RedisServer
) -> None:
    first, _ = two_apps
    context = ensure_context(first)
    context_cache(first).put_dashboard_copy(context, "{}")

    unreachable = "postgresql://127.0.0.1:1/none"
    with (
        create_app_on(tmp_path / "3", unreachable, redis_url=redis.url) as changing,
        changing.app_context(),
    ):
        is_published = context_cache(changing).publish([BOB.clerk_id])

    with first.app_context():
        assert context_cache(first).get(identity_of(BOB)) is None
        assert context_cache(first).get_dashboard_copy(BOB.clerk_id) is None
    assert not is_published


def test_silent_redis_is_connected_to_once(tmp_path: Path, template_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        silent.setblocking(False)
        address = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        with create_app_on(tmp_path, template_url, redis_url=address) as app:
            found = [context_cache(app).get(identity_of(BOB)) for _ in range(3)]
            connections = [silent.accept()[0]]
            with pytest.raises(BlockingIOError):
                silent.accept()

    connections[0].close()
    assert found == [None] * 3
