"""With Redis, what one process knows the others know, and what one changes holds in all."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from flask import Flask

from dev.databases import app_on
from dev.servers import Redis
from provisioning.context import RequestContext
from provisioning.context_cache import ContextCache
from tests.support.users import BOB, NOW, PAGE, identity_of
from web.services import EXTENSION


@pytest.fixture
def two_apps(
    copy_database: Callable[[str], str], tmp_path: Path, redis: Redis
) -> Iterator[tuple[Flask, Flask]]:
    """Two apps, as two processes would have them, on one database and one Redis."""
    url = copy_database(f"shared_{tmp_path.name}")
    with ExitStack() as stack:
        settings = {"redis_url": redis.url}
        first = stack.enter_context(app_on(tmp_path / "1", url, **settings))
        second = stack.enter_context(app_on(tmp_path / "2", url, **settings))
        yield first, second


def contexts(app: Flask) -> ContextCache:
    found: ContextCache = app.extensions[EXTENSION].provisioning.contexts
    return found


def provide(app: Flask) -> RequestContext:
    with app.app_context():
        guarantee = app.extensions[EXTENSION].provisioning
        context: RequestContext = guarantee.context_for(identity_of(BOB), source=PAGE, now=NOW)
        return context


def test_context_of_one_process_serves_the_other(two_apps: tuple[Flask, Flask]) -> None:
    first, second = two_apps
    known = provide(first)

    with second.app_context():
        found = contexts(second).get(identity_of(BOB))

    assert found is not None
    assert (found.user, found.mentorado) == (known.user, known.mentorado)


def test_version_published_by_one_process_holds_in_the_other(two_apps: tuple[Flask, Flask]) -> None:
    first, second = two_apps
    known = provide(first)

    with second.app_context():
        contexts(second).publish_versions({BOB.clerk_id: (known.version or 0) + 1})

    with first.app_context():
        assert contexts(first).get(identity_of(BOB)) is None


def test_silent_redis_is_asked_once_and_then_left_alone(tmp_path: Path, template_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        silent.setblocking(False)
        address = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        with app_on(tmp_path, template_url, redis_url=address) as app:
            found = [contexts(app).get(identity_of(BOB)) for _ in range(3)]
            callers = [silent.accept()[0]]
            with pytest.raises(BlockingIOError):
                silent.accept()

    callers[0].close()
    assert found == [None] * 3
