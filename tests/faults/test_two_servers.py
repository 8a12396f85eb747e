"""Two servers on one database and one Redis: what one of them changes holds in the other."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest
import requests

from dev.clients import ADMIN, code_of, new_users, request_as
from dev.databases import count
from dev.fake_clerk import DevUser
from dev.servers import PROJECT, Redis, Served, child_environment, eventually, frozen, served
from provisioning.context_cache import CONFIRMED_SECONDS
from tests.support.users import ALICE

SWITCH = "/api/admin/settings/auto-create"
VISITOR, *STRANGERS = new_users(3)


class Pair(NamedTuple):
    """The server where admins work, and the one where people sign in."""

    here: Served
    there: Served


@pytest.fixture
def pair(url: str, redis: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both, knowing the same stand-in for Clerk."""
    folder = tmp_path_factory.mktemp("pair")
    settings = {"DATABASE_URL": url, "REDIS_URL": redis.url}
    with ExitStack() as stack:
        yield Pair(*(stack.enter_context(served(folder, **settings)) for _ in range(2)))


def own(server: Served, person: DevUser) -> dict[str, object]:
    answer: dict[str, object] = request_as(server, person, "/api/auth/me", "GET").json()
    return answer


def act(server: Served, path: str, body: object = None, method: str = "POST") -> requests.Response:
    answer = request_as(server, ADMIN, f"/api/admin/{path}", method, body)
    assert answer.ok, answer.text
    return answer


def ids(me: dict[str, object]) -> tuple[int, int]:
    """The ids of somebody's user and mentorado."""
    return me["user"]["id"], me["mentorado"]["id"]  # type: ignore[index] # as JSON has it


def test_changes_by_an_admin_hold_at_the_next_request_in_the_other_server(pair: Pair) -> None:
    user_id, own_id = ids(own(pair.there, ALICE))
    waiting_id = act(pair.here, "mentorados", {"nome_completo": "Alice"}).json()["id"]
    steps: list[object] = []

    for path in (f"users/{user_id}/block", f"users/{user_id}/allow"):
        act(pair.here, path)
        steps.append(own(pair.there, ALICE)["status"])
    act(pair.here, f"mentorados/{waiting_id}/link", {"user_id": user_id})
    steps.append(ids(own(pair.there, ALICE)) == (user_id, waiting_id))
    act(pair.here, f"mentorados/{waiting_id}", method="DELETE")
    steps.append(own(pair.there, ALICE)["status"])

    assert steps == ["user_blocked", "ready", True, "user_blocked"]
    assert own_id != waiting_id


def test_role_that_an_operator_grants_holds_at_the_next_request(
    pair: Pair, url: str, redis: Redis
) -> None:
    before = own(pair.there, ALICE)["user"]["role"]  # type: ignore[index] # as JSON has it

    settings = {
        "DATABASE_URL": url,
        "REDIS_URL": redis.url,
        "INSTANCE_PATH": str(pair.here.instance),
    }
    command = [sys.executable, "-m", "flask", "token", ALICE.clerk_id, "--admin"]
    subprocess.run(command, cwd=PROJECT, env=child_environment(settings), check=True)

    after = own(pair.there, ALICE)["user"]["role"]  # type: ignore[index] # as JSON has it
    assert (before, after) == ("user", "admin")


def test_switch_holds_at_once_everywhere_and_heals_when_it_is_turned_on(
    pair: Pair, url: str
) -> None:
    act(pair.here, "settings/auto-create", {"enabled": False}, "PUT")
    refused = [code_of(request_as(server, STRANGERS[0])) for server in pair]
    act(pair.there, "settings/auto-create", {"enabled": True}, "PUT")
    healed = [
        request_as(server, person).status_code
        for server, person in zip(pair, STRANGERS, strict=True)
    ]

    assert (refused, healed) == (["auto_create_disabled"] * 2, [201, 201])
    assert count(url, "SELECT count(*) FROM mentorados") == 2


def test_hanging_redis_changes_no_answer_and_a_block_that_it_missed_holds(
    pair: Pair, redis: Redis
) -> None:
    user_id, _ = ids(own(pair.there, ALICE))

    with frozen(redis.process):
        newcomer = request_as(pair.there, VISITOR).status_code
        before = own(pair.there, ALICE)["status"]
        act(pair.here, f"users/{user_id}/block")
        during = [own(server, ALICE)["status"] for server in pair]

    assert (newcomer, before, during) == (201, "ready", ["user_blocked"] * 2)
    assert eventually(
        lambda: [own(server, ALICE)["status"] for server in pair] == ["user_blocked"] * 2,
        seconds=CONFIRMED_SECONDS + 2,
    )
