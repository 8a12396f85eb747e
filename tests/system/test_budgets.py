"""What a request may cost, by counting and not by the clock: trips to the database, and calls.

Whoever makes something cheaper lowers its budget here; whoever makes it dearer has to say so.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from dev.commit_proxy import relayed
from dev.databases import app_on
from dev.fake_clerk import DevUser
from tests.support.statement_counter import Tally
from tests.support.users import BOB, CHARLIE
from web.services import EXTENSION

ENSURE, ME, DASHBOARD = "POST /api/auth/ensure", "GET /api/auth/me", "GET /dashboard"
OVERVIEW = "GET /api/mentorados/me/overview"
# Round trips and statements, BEGIN, limits and COMMIT among them.
TRIPS = {
    ("first", ENSURE): (3, 6),
    ("first", ME): (3, 6),
    ("known", ENSURE): (2, 5),
    ("first", DASHBOARD): (5, 11),
    ("warm", ME): (0, 0),
    ("warm", OVERVIEW): (2, 5),
    ("warm", DASHBOARD): (2, 5),
}
EARLIER = tuple(replace(CHARLIE, clerk_id=f"user_earlier_{number}") for number in range(3))


@dataclass(frozen=True, slots=True)
class Bench:
    """An app whose database is listened to, and how to ask it as somebody."""

    client: FlaskClient
    tally: Tally
    headers: dict[str, dict[str, str]]

    def ask(self, what: str, who: DevUser) -> None:
        """Ask once, with the session token of before; it has to go well."""
        method, path = what.split()
        answer = self.client.open(path, method=method, headers=self.headers[who.clerk_id])
        assert answer.status_code < 300, answer.text


@pytest.fixture
def bench(copy_database: Callable[[str], str], tmp_path: Path) -> Iterator[Bench]:
    url = copy_database(f"budgets_{tmp_path.name}")
    with relayed(url) as relay, app_on(tmp_path, relay.url) as app:
        sign = app.extensions[EXTENSION].dev_provider.token
        headers = {p.clerk_id: {"Authorization": f"Bearer {sign(p)}"} for p in (*EARLIER, BOB)}
        yield Bench(app.test_client(), relay.tally, headers)


def prepare(bench: Bench, state: str, what: str) -> None:
    """Bring Bob into that state; others went the same way before, so that nothing is new."""
    for who in EARLIER:
        come(bench, state, what, who)
        bench.ask(what, who)
    come(bench, state, what, BOB)


def come(bench: Bench, state: str, what: str, who: DevUser) -> None:
    if state != "first":
        bench.ask(ENSURE, who)
    if state == "warm":
        bench.ask(what, who)


@pytest.mark.parametrize(("state", "what"), TRIPS, ids=map(" ".join, TRIPS))
def test_request_goes_to_the_database_no_more_often(bench: Bench, state: str, what: str) -> None:
    prepare(bench, state, what)
    bench.tally.clear()

    bench.ask(what, BOB)

    assert (bench.tally.round_trips, bench.tally.statements) == TRIPS[state, what]
