"""Access that was taken ends within five seconds, whatever happens to the cache or to the process.

Every denial is committed within the same moment; the tests then wait for it together.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis as client

from dev.clients import ADMIN, new_users, request_as
from dev.databases import connect_to, count
from dev.fake_clerk import DevUser
from dev.servers import (
    PROJECT,
    Redis,
    Served,
    child_environment,
    eventually,
    free_port,
    served,
    start_redis,
)
from provisioning.context_cache import CONFIRMED_SECONDS

KILLED, DEMOTED, UNHEARD, RESTORED, DEACTIVATED = new_users(5)
PEOPLE = (KILLED, DEMOTED, UNHEARD, RESTORED, DEACTIVATED)
ROLES = "UPDATE users SET role = 'admin' WHERE clerk_id IN ('{}', '{}')"
# As a process leaves them that dies between its commit and its word to Redis.
BLOCK = "UPDATE users SET blocked_at = now() WHERE clerk_id = '{}'"
DEACTIVATE = """
UPDATE mentorados m SET ativo = 'nao' FROM users u WHERE u.id = m.user_id AND u.clerk_id = '{}'
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """Two processes that share a Redis, after every denial has been committed."""

    app: Served
    seconds: float  # since the first of them
    revocation: subprocess.CompletedProcess[str]  # with Redis
    unheard: subprocess.CompletedProcess[str]  # without


def flask(
    app: Served, url: str, redis_url: str | None, *args: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of ours beside the app."""
    settings = {"DATABASE_URL": url, "INSTANCE_PATH": str(app.instance)}
    environment = child_environment(settings | ({"REDIS_URL": redis_url} if redis_url else {}))
    command = [sys.executable, "-m", "flask", *args]
    return subprocess.run(
        command, cwd=PROJECT, env=environment, check=False, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def scene(
    tmp_path_factory: pytest.TempPathFactory, copy_database: Callable[[str], str]
) -> Iterator[Scene]:
    """Sign five people in, take the access from each in another way, and restore an old Redis."""
    folder = tmp_path_factory.mktemp("denials")
    url = copy_database(f"faults_{folder.name}")
    with (
        start_redis(folder) as redis,
        served(folder, DATABASE_URL=url, REDIS_URL=redis.url, WEB_CONCURRENCY="2") as app,
    ):
        for person in (ADMIN, *PEOPLE):
            assert request_as(app, person).status_code in (200, 201)
        with connect_to(url) as connection:
            connection.exec_driver_sql(ROLES.format(DEMOTED.clerk_id, UNHEARD.clerk_id))
        closed = f"redis://127.0.0.1:{free_port()}"
        # Everybody has an entry that was confirmed just now.
        for person in PEOPLE:
            request_as(app, person, "/api/auth/ensure")
            request_as(app, person, "/api/auth/me", "GET")
        snapshot = contents(redis)
        started = time.monotonic()
        block_by_admin(app, url)
        with connect_to(url) as connection:
            connection.exec_driver_sql(BLOCK.format(KILLED.clerk_id))
            connection.exec_driver_sql(DEACTIVATE.format(DEACTIVATED.clerk_id))
        revocation = flask(app, url, redis.url, "admin", "revoke", str(DEMOTED.email))
        unheard = flask(app, url, closed, "admin", "revoke", str(UNHEARD.email))
        restore(redis, snapshot)
        yield Scene(app, time.monotonic() - started, revocation, unheard)


def block_by_admin(app: Served, url: str) -> None:
    query = f"SELECT id FROM users WHERE clerk_id = '{RESTORED.clerk_id}'"
    assert request_as(app, ADMIN, f"/api/admin/users/{count(url, query)}/block").status_code == 200


def contents(redis: Redis) -> dict[bytes, bytes]:
    """All that Redis holds, with its time to live left out: as if it lived for ever."""
    with client.Redis.from_url(redis.url) as store:
        return {key: store.dump(key) for key in store.keys("neon:*")}


def restore(redis: Redis, snapshot: dict[bytes, bytes]) -> None:
    """Bring back what was there, as a Redis that starts from an old file does."""
    with client.Redis.from_url(redis.url) as store:
        for key, value in snapshot.items():
            left = 60_000 if b"confirmed:" not in key else int(CONFIRMED_SECONDS * 1000)
            store.restore(key, left, value, replace=True)


def is_refused(app: Served, person: DevUser) -> bool:
    """Whether both processes refuse this user; several tries reach both."""
    answers = [request_as(app, person, "/api/mentorados/me", "GET") for _ in range(6)]
    return all(answer.status_code == 403 for answer in answers)


def is_demoted(app: Served, person: DevUser) -> bool:
    answers = [request_as(app, person, "/api/admin/users", "GET") for _ in range(6)]
    return all(answer.status_code == 403 for answer in answers)


@pytest.mark.parametrize(
    "person",
    [
        pytest.param(KILLED, id="the process died before it published the block"),
        pytest.param(DEACTIVATED, id="another program deactivated the profile"),
        pytest.param(RESTORED, id="Redis came back with an old snapshot"),
    ],
)
def test_denied_user_is_refused_within_seconds(scene: Scene, person: DevUser) -> None:
    assert eventually(lambda: is_refused(scene.app, person), seconds=CONFIRMED_SECONDS + 3)


@pytest.mark.parametrize(
    "person",
    [
        pytest.param(DEMOTED, id="by the command"),
        pytest.param(UNHEARD, id="by a command without Redis"),
    ],
)
def test_revoked_admin_is_refused_within_seconds(scene: Scene, person: DevUser) -> None:
    assert eventually(lambda: is_demoted(scene.app, person), seconds=CONFIRMED_SECONDS + 3)


def test_command_that_reaches_redis_ends_well(scene: Scene) -> None:
    assert (scene.revocation.returncode, "no admin" in scene.revocation.stdout) == (0, True)


def test_command_that_cannot_reach_redis_says_so(scene: Scene) -> None:
    assert scene.unheard.returncode == 1
    assert "did not answer: it holds within 5 s" in scene.unheard.stderr


def test_command_is_heard_by_an_app_without_redis(
    tmp_path: Path, copy_database: Callable[[str], str]
) -> None:
    url = copy_database(f"faults_{tmp_path.name}")
    with served(tmp_path, DATABASE_URL=url) as app:
        request_as(app, DEMOTED)
        with connect_to(url) as connection:
            connection.exec_driver_sql(ROLES.format(DEMOTED.clerk_id, DEMOTED.clerk_id))
        request_as(app, DEMOTED)
        assert request_as(app, DEMOTED, "/api/admin/users", "GET").status_code == 200

        assert flask(app, url, None, "admin", "revoke", str(DEMOTED.email)).returncode == 0

        assert eventually(lambda: is_demoted(app, DEMOTED), seconds=CONFIRMED_SECONDS + 3)
