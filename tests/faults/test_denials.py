"""Withdrawn access ends within five seconds, whatever happens to the cache or the process.

The fixture commits all denials together; each test then waits for its own.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis as client

from benchmarks.databases import connect_to, count
from benchmarks.servers import (
    PROJECT,
    AppServer,
    RedisServer,
    child_environment,
    eventually,
    free_port,
    request_as,
    start_redis,
)
from dev.fake_clerk import DevUser
from provisioning.context_cache import CONFIRMED_SECONDS
from tests.support.clients import ADMIN, new_users
from tests.support.servers import run_test_app

UNPUBLISHED, DEMOTED, DEMOTED_OFFLINE, RESTORED, DEACTIVATED = new_users(5)
USERS = (UNPUBLISHED, DEMOTED, DEMOTED_OFFLINE, RESTORED, DEACTIVATED)
ROLES = "UPDATE users SET role = 'admin' WHERE clerk_id IN ('{}', '{}')"
# The rows as a process leaves them that dies between its commit and its message to Redis.
BLOCK = "UPDATE users SET blocked_at = now() WHERE clerk_id = '{}'"
DEACTIVATE = """
UPDATE mentorados m SET ativo = 'nao' FROM users u WHERE u.id = m.user_id AND u.clerk_id = '{}'
"""


@dataclass(frozen=True, slots=True)
class DeniedUsers:
    """Two processes that share a Redis, after all denials have been committed."""

    app: AppServer
    seconds: float  # since the first denial
    revocation: subprocess.CompletedProcess[str]  # by a command with Redis
    offline_revocation: subprocess.CompletedProcess[str]  # by a command without Redis


def flask(
    app: AppServer, url: str, redis_url: str | None, *args: str
) -> subprocess.CompletedProcess[str]:
    """Run a flask command on the app's database and instance folder."""
    settings = {"DATABASE_URL": url, "INSTANCE_PATH": str(app.instance)}
    environment = child_environment(settings | ({"REDIS_URL": redis_url} if redis_url else {}))
    command = [sys.executable, "-m", "flask", *args]
    return subprocess.run(
        command, cwd=PROJECT, env=environment, check=False, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def denied(
    tmp_path_factory: pytest.TempPathFactory, copy_database: Callable[[str], str]
) -> Iterator[DeniedUsers]:
    """Sign in five users, withdraw their access in five ways, and restore an old Redis."""
    folder = tmp_path_factory.mktemp("denials")
    url = copy_database(f"faults_{folder.name}")
    with (
        start_redis(folder) as redis,
        run_test_app(folder, DATABASE_URL=url, REDIS_URL=redis.url, WEB_CONCURRENCY="2") as app,
    ):
        for user in (ADMIN, *USERS):
            assert request_as(app, user).status_code in (200, 201)
        with connect_to(url) as connection:
            connection.exec_driver_sql(ROLES.format(DEMOTED.clerk_id, DEMOTED_OFFLINE.clerk_id))
            unreachable_redis = f"redis://127.0.0.1:{free_port()}"
        # Each user gets a cache entry that was confirmed just now.
        for user in USERS:
            request_as(app, user, "/api/auth/ensure")
            request_as(app, user, "/api/auth/me", "GET")
        snapshot = dump(redis)
        started = time.monotonic()
        block_by_admin(app, url)
        with connect_to(url) as connection:
            connection.exec_driver_sql(BLOCK.format(UNPUBLISHED.clerk_id))
            connection.exec_driver_sql(DEACTIVATE.format(DEACTIVATED.clerk_id))
        revocation = flask(app, url, redis.url, "admin", "revoke", str(DEMOTED.email))
        offline_revocation = flask(
            app, url, unreachable_redis, "admin", "revoke", str(DEMOTED_OFFLINE.email)
        )
        restore(redis, snapshot)
        yield DeniedUsers(app, time.monotonic() - started, revocation, offline_revocation)


def block_by_admin(app: AppServer, url: str) -> None:
    query = f"SELECT id FROM users WHERE clerk_id = '{RESTORED.clerk_id}'"
    assert request_as(app, ADMIN, f"/api/admin/users/{count(url, query)}/block").status_code == 200


def dump(redis: RedisServer) -> dict[bytes, bytes]:
    """Return all keys and dumped values of Redis, without their times to live."""
    with client.Redis.from_url(redis.url) as store:
        return {key: store.dump(key) for key in store.keys("neon:*")}


def restore(redis: RedisServer, snapshot: dict[bytes, bytes]) -> None:
    """Restore the keys, as a Redis does that starts from an old file."""
    with client.Redis.from_url(redis.url) as store:
        for key, value in snapshot.items():
            ttl_ms = 60_000 if b"confirmed:" not in key else int(CONFIRMED_SECONDS * 1000)
            store.restore(key, ttl_ms, value, replace=True)


def is_refused(app: AppServer, user: DevUser) -> bool:
    """Return whether both processes refuse this user; six requests reach both."""
    answers = [request_as(app, user, "/api/mentorados/me", "GET") for _ in range(6)]
    return all(answer.status_code == 403 for answer in answers)


def is_demoted(app: AppServer, user: DevUser) -> bool:
    answers = [request_as(app, user, "/api/admin/users", "GET") for _ in range(6)]
    return all(answer.status_code == 403 for answer in answers)


@pytest.mark.parametrize(
    "user",
    [
        pytest.param(UNPUBLISHED, id="the process died before it published the block"),
        pytest.param(DEACTIVATED, id="another program deactivated the profile"),
        pytest.param(RESTORED, id="Redis came back with an old snapshot"),
    ],
)
def test_denied_user_is_refused_within_seconds(denied: DeniedUsers, user: DevUser) -> None:
    assert eventually(lambda: is_refused(denied.app, user), seconds=CONFIRMED_SECONDS + 3)


@pytest.mark.parametrize(
    "user",
    [
        pytest.param(DEMOTED, id="by the command"),
        pytest.param(DEMOTED_OFFLINE, id="by a command without Redis"),
    ],
)
def test_revoked_admin_is_refused_within_seconds(denied: DeniedUsers, user: DevUser) -> None:
    assert eventually(lambda: is_demoted(denied.app, user), seconds=CONFIRMED_SECONDS + 3)


def test_revoke_command_with_redis_succeeds(denied: DeniedUsers) -> None:
    assert (denied.revocation.returncode, "no admin" in denied.revocation.stdout) == (0, True)


def test_revoke_command_without_redis_fails_with_a_message(denied: DeniedUsers) -> None:
    assert denied.offline_revocation.returncode == 1
    assert "did not answer: it takes effect within 5 s" in denied.offline_revocation.stderr


def test_revoke_command_is_applied_by_an_app_without_redis(
    tmp_path: Path, copy_database: Callable[[str], str]
) -> None:
    url = copy_database(f"faults_{tmp_path.name}")
    with run_test_app(tmp_path, DATABASE_URL=url) as app:
        request_as(app, DEMOTED)
        with connect_to(url) as connection:
            connection.exec_driver_sql(ROLES.format(DEMOTED.clerk_id, DEMOTED.clerk_id))
        request_as(app, DEMOTED)
        assert request_as(app, DEMOTED, "/api/admin/users", "GET").status_code == 200

        assert flask(app, url, None, "admin", "revoke", str(DEMOTED.email)).returncode == 0

        assert eventually(lambda: is_demoted(app, DEMOTED), seconds=CONFIRMED_SECONDS + 3)
