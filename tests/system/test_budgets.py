"""Budgets of requests: round trips to the database and Redis, statements and Redis commands.

The figures are exact, so that a change in either direction is visible in the commit.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from benchmarks.databases import StatementCounts, network_proxy
from benchmarks.servers import RedisServer
from dev.fake_clerk import DevUser
from tests.support.apps import create_app_on
from tests.support.redis_counter import RedisCounts, counted_redis
from tests.support.users import BOB, CHARLIE
from web.services import EXTENSION

ENSURE, ME, DASHBOARD = "POST /api/auth/ensure", "GET /api/auth/me", "GET /dashboard"
OVERVIEW = "GET /api/mentorados/me/overview"
# Of the database: round trips and statements, including BEGIN, timeouts and COMMIT. Of Redis: round
# trips and commands, one before the database and one after each commit or report.
BUDGETS = {
    ("first", ENSURE): ((2, 5), (2, 2)),
    ("first", ME): ((2, 5), (2, 2)),
    ("first without claims", ENSURE): ((3, 8), (2, 2)),  # one of them asks what is known
    ("known", ENSURE): ((2, 5), (2, 2)),
    ("first", DASHBOARD): ((3, 8), (3, 3)),
    ("warm", ME): ((0, 0), (1, 1)),
    ("warm", OVERVIEW): ((1, 3), (2, 2)),
    ("warm", DASHBOARD): ((1, 3), (2, 2)),
}
EARLIER_USERS = tuple(replace(CHARLIE, clerk_id=f"user_earlier_{number}") for number in range(3))
BARE = replace(BOB, clerk_id="user_without_claims")  # whose token has an id only


@dataclass(frozen=True, slots=True)
class MeasuredApp:
    """An app, counters of its traffic to database and Redis, and its users' request headers."""

    client: FlaskClient
    tally: StatementCounts
    redis: RedisCounts
    headers: dict[str, dict[str, str]]

    def send(self, operation: str, user: DevUser) -> None:
        """Send a request with the stored token; it must succeed."""
        method, path = operation.split()
        answer = self.client.open(path, method=method, headers=self.headers[user.clerk_id])
        assert answer.status_code < 300, answer.text


@pytest.fixture
def measured(
    copy_database: Callable[[str], str], tmp_path: Path, redis: RedisServer
) -> Iterator[MeasuredApp]:
    url = copy_database(f"budgets_{tmp_path.name}")
    with (
        network_proxy(url) as relay,
        counted_redis(redis.url) as counts,
        create_app_on(tmp_path, relay.url, redis_url=counts.url) as app,
    ):
        provider = app.extensions[EXTENSION].dev_provider
        headers = {
            u.clerk_id: {"Authorization": f"Bearer {provider.token(u)}"}
            for u in (*EARLIER_USERS, BOB)
        }
        bare = provider.sign({"sub": BARE.clerk_id, "azp": "http://localhost"}, 60)
        headers[BARE.clerk_id] = {"Authorization": f"Bearer {bare}"}
        yield MeasuredApp(app.test_client(), relay.tally, counts, headers)


def prepare(measured: MeasuredApp, state: str, operation: str) -> None:
    """Bring Bob into the state, after other users, so that plans and caches are warm."""
    for user in EARLIER_USERS:
        enter_state(measured, state, operation, user)
        measured.send(operation, user)
    enter_state(measured, state, operation, BOB)


def enter_state(measured: MeasuredApp, state: str, operation: str, user: DevUser) -> None:
    if state in ("known", "warm"):
        measured.send(ENSURE, user)
    if state == "warm":
        measured.send(operation, user)


@pytest.mark.real_time_limits  # longer ones need one more statement
@pytest.mark.parametrize(("state", "operation"), BUDGETS, ids=map(" ".join, BUDGETS))
def test_request_needs_the_budgeted_round_trips_statements_and_commands(
    measured: MeasuredApp, state: str, operation: str
) -> None:
    prepare(measured, state, operation)
    database, redis = measured.tally, measured.redis
    database.clear()
    redis.clear()

    measured.send(operation, BARE if state == "first without claims" else BOB)

    assert (
        (database.round_trips, database.statements),
        (redis.round_trips, redis.commands),
    ) == BUDGETS[state, operation]
