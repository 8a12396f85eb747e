"""Doors closed: whatever is sent, the answer is a sound one, and the next guest is served."""

from pathlib import Path

import pytest

from dev.clients import ADMIN, is_served, new_users, provider_of, request_as
from dev.databases import app_on
from dev.servers import Served, workers
from tests.support.malformed_load import Onslaught
from tests.support.request_samples import Guests, Route, routes_of
from tests.support.users import ALICE, BOB

REQUESTS = 5_000  # ten thousand, or any number, by hand
TROUBLE = ("Traceback", '"level": "error"', '"level": "critical"')


@pytest.fixture
def routes(tmp_path_factory: pytest.TempPathFactory, url: str) -> list[Route]:
    with app_on(tmp_path_factory.mktemp("map"), url) as app:
        return routes_of(app)


@pytest.fixture
def guests(app: Served) -> Guests:
    """Nobody, a mentee and an admin, each as a program and as a browser; others have profiles."""
    assert all(is_served(request_as(app, person)) for person in (ADMIN, ALICE, *new_users(4)))
    sign = provider_of(app.instance).token
    ways = [("Authorization", "Bearer {}"), ("Cookie", "__session={}")]
    admins, mentees = (
        [((name, value.format(sign(person))),) for name, value in ways] for person in (ADMIN, ALICE)
    )
    return Guests(admins, [(), *mentees])


def test_whatever_is_sent_the_answer_is_sound_and_the_next_guest_is_served(
    app: Served, routes: list[Route], guests: Guests
) -> None:
    before = workers(app)

    answers = Onslaught(app, routes, guests).run(REQUESTS)

    assert [answer for answer in answers if answer.fault] == []
    assert [line for line in lines_of(app.log) if any(t in line for t in TROUBLE)] == []
    assert is_served(request_as(app, BOB))
    assert workers(app) == before


def lines_of(log: Path) -> list[str]:
    return log.read_text().splitlines()
