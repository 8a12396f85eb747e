"""Budgets of requests: round trips to the database and statements.

The figures are exact, so that a change in either direction is visible in the commit.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from dev.commit_proxy import commit_proxy_before
from dev.databases import create_app_on
from dev.fake_clerk import DevUser
from tests.support.statement_counter import StatementCounts
from tests.support.users import BOB, CHARLIE
from web.services import EXTENSION

ENSURE, ME, DASHBOARD = "POST /api/auth/ensure", "GET /api/auth/me", "GET /dashboard"
OVERVIEW = "GET /api/mentorados/me/overview"
# Round trips and statements, including BEGIN, timeouts and COMMIT.
BUDGETS = {
    ("first", ENSURE): (3, 6),
    ("first", ME): (3, 6),
    ("known", ENSURE): (2, 5),
    ("first", DASHBOARD): (5, 11),
    ("warm", ME): (0, 0),
    ("warm", OVERVIEW): (2, 5),
    ("warm", DASHBOARD): (2, 5),
}
EARLIER_USERS = tuple(replace(CHARLIE, clerk_id=f"user_earlier_{number}") for number in range(3))


@dataclass(frozen=True, slots=True)
class MeasuredApp:
    """An app, a counter of its database traffic, and the request headers of its users."""

    client: FlaskClient
    tally: StatementCounts
    headers: dict[str, dict[str, str]]

    def send(self, operation: str, user: DevUser) -> None:
        """Send a request with the stored token; it must succeed."""
        method, path = operation.split()
        answer = self.client.open(path, method=method, headers=self.headers[user.clerk_id])
        assert answer.status_code < 300, answer.text


@pytest.fixture
def measured(copy_database: Callable[[str], str], tmp_path: Path) -> Iterator[MeasuredApp]:
    url = copy_database(f"budgets_{tmp_path.name}")
    with commit_proxy_before(url) as relay, create_app_on(tmp_path, relay.url) as app:
        sign = app.extensions[EXTENSION].dev_provider.token
        headers = {
            u.clerk_id: {"Authorization": f"Bearer {sign(u)}"} for u in (*EARLIER_USERS, BOB)
        }
        yield MeasuredApp(app.test_client(), relay.tally, headers)


def prepare(measured: MeasuredApp, state: str, operation: str) -> None:
    """Bring Bob into the state, after other users, so that plans and caches are warm."""
    for user in EARLIER_USERS:
        enter_state(measured, state, operation, user)
        measured.send(operation, user)
    enter_state(measured, state, operation, BOB)


def enter_state(measured: MeasuredApp, state: str, operation: str, user: DevUser) -> None:
    if state != "first":
        measured.send(ENSURE, user)
    if state == "warm":
        measured.send(operation, user)


@pytest.mark.parametrize(("state", "operation"), BUDGETS, ids=map(" ".join, BUDGETS))
def test_request_needs_the_budgeted_round_trips_and_statements(
    measured: MeasuredApp, state: str, operation: str
) -> None:
    prepare(measured, state, operation)
    measured.tally.clear()

    measured.send(operation, BOB)

    assert (measured.tally.round_trips, measured.tally.statements) == BUDGETS[state, operation]
