"""Two servers on one database and one Redis: changes of one apply in the other."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest
import requests

from benchmarks.databases import count
from benchmarks.servers import (
    PROJECT,
    AppServer,
    RedisServer,
    child_environment,
    eventually,
    request_as,
    start_redis,
    suspended,
)
from dev.fake_clerk import DevUser
from provisioning.context_cache import CONFIRMED_SECONDS
from tests.support.clients import ADMIN, code_of, new_users
from tests.support.servers import run_test_app
from tests.support.users import ALICE

NEW_USER, BLOCKED, GRANTED, *OTHER_USERS = new_users(5)


PROFILES = "SELECT count(*) FROM mentorados"


class Pair(NamedTuple):
    """The server that admins use and the one that mentees use."""

    admin_server: AppServer
    user_server: AppServer


@pytest.fixture(scope="module")
def url(copy_database: Callable[[str], str]) -> str:
    """The URL of the database of both servers."""
    return copy_database("two_servers")


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The Redis of both servers."""
    with start_redis(tmp_path_factory.mktemp("redis_of_two")) as server:
        yield server


@pytest.fixture(scope="module")
def pair(url: str, redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two servers with the same development identity provider; each test has its own users."""
    folder = tmp_path_factory.mktemp("pair")
    settings = {"DATABASE_URL": url, "REDIS_URL": redis.url}
    with ExitStack() as stack:
        yield Pair(*(stack.enter_context(run_test_app(folder, **settings)) for _ in range(2)))


def me(server: AppServer, user: DevUser) -> dict[str, object]:
    answer: dict[str, object] = request_as(server, user, "/api/auth/me", "GET").json()
    return answer


def admin_request(
    server: AppServer, path: str, body: object = None, method: str = "POST"
) -> requests.Response:
    answer = request_as(server, ADMIN, f"/api/admin/{path}", method, body)
    assert answer.ok, answer.text
    return answer


def ids(answer: dict[str, object]) -> tuple[int, int]:
    """Return the ids of user and profile."""
    return answer["user"]["id"], answer["mentorado"]["id"]  # type: ignore[index] # as JSON has it


def test_admin_changes_apply_at_the_next_request_in_the_other_server(pair: Pair) -> None:
    user_id, own_id = ids(me(pair.user_server, ALICE))
    unlinked_id = admin_request(pair.admin_server, "mentorados", {"nome_completo": "Alice"}).json()[
        "id"
    ]
    steps: list[object] = []

    for path in (f"users/{user_id}/block", f"users/{user_id}/allow"):
        admin_request(pair.admin_server, path)
        steps.append(me(pair.user_server, ALICE)["status"])
    admin_request(pair.admin_server, f"mentorados/{unlinked_id}/link", {"user_id": user_id})
    steps.append(ids(me(pair.user_server, ALICE)) == (user_id, unlinked_id))
    admin_request(pair.admin_server, f"mentorados/{unlinked_id}", method="DELETE")
    steps.append(me(pair.user_server, ALICE)["status"])

    assert steps == ["user_blocked", "ready", True, "user_blocked"]
    assert own_id != unlinked_id


def test_granted_role_applies_at_the_next_request(pair: Pair, url: str, redis: RedisServer) -> None:
    before = me(pair.user_server, GRANTED)["user"]["role"]  # type: ignore[index] # as JSON has it

    settings = {
        "DATABASE_URL": url,
        "REDIS_URL": redis.url,
        "INSTANCE_PATH": str(pair.admin_server.instance),
    }
    command = [sys.executable, "-m", "flask", "token", GRANTED.clerk_id, "--admin"]
    subprocess.run(command, cwd=PROJECT, env=child_environment(settings), check=True)

    after = me(pair.user_server, GRANTED)["user"]["role"]  # type: ignore[index] # as JSON has it
    assert (before, after) == ("user", "admin")


def test_auto_create_setting_applies_at_once_in_both_servers(pair: Pair, url: str) -> None:
    before = count(url, PROFILES)
    admin_request(pair.admin_server, "settings/auto-create", {"enabled": False}, "PUT")
    refused = [code_of(request_as(server, OTHER_USERS[0])) for server in pair]
    admin_request(pair.user_server, "settings/auto-create", {"enabled": True}, "PUT")
    created = [
        request_as(server, user).status_code for server, user in zip(pair, OTHER_USERS, strict=True)
    ]

    assert (refused, created) == (["auto_create_disabled"] * 2, [201, 201])
    assert count(url, PROFILES) == before + 2


def test_block_that_a_hanging_redis_missed_applies_in_both_servers(
    pair: Pair, redis: RedisServer
) -> None:
    user_id, _ = ids(me(pair.user_server, BLOCKED))

    with suspended(redis.process):
        new_user_status = request_as(pair.user_server, NEW_USER).status_code
        before = me(pair.user_server, BLOCKED)["status"]
        admin_request(pair.admin_server, f"users/{user_id}/block")
        during = [me(server, BLOCKED)["status"] for server in pair]

    assert (new_user_status, before, during) == (201, "ready", ["user_blocked"] * 2)
    assert eventually(
        lambda: [me(server, BLOCKED)["status"] for server in pair] == ["user_blocked"] * 2,
        seconds=CONFIRMED_SECONDS + 2,
    )
