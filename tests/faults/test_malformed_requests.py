"""Malformed requests get a valid answer, and the next request is served."""

from pathlib import Path

import pytest

from benchmarks.servers import AppServer, is_served, provider_of, request_as, workers
from tests.support.apps import create_app_on
from tests.support.clients import ADMIN, new_users
from tests.support.malformed_load import MalformedLoad
from tests.support.request_samples import Credentials, Route, routes_of
from tests.support.users import ALICE, BOB

REQUESTS = 1_500
ERROR_MARKS = ("Traceback", '"level": "error"', '"level": "critical"')


@pytest.fixture
def routes(tmp_path_factory: pytest.TempPathFactory, url: str) -> list[Route]:
    with create_app_on(tmp_path_factory.mktemp("map"), url) as app:
        return routes_of(app)


@pytest.fixture
def guests(app: AppServer) -> Credentials:
    """Credentials: none, a mentee's and an admin's, each as a token and as a cookie."""
    assert all(is_served(request_as(app, user)) for user in (ADMIN, ALICE, *new_users(4)))
    sign = provider_of(app.instance).token
    headers = [("Authorization", "Bearer {}"), ("Cookie", "__session={}")]
    admins, mentees = (
        [((name, value.format(sign(user))),) for name, value in headers] for user in (ADMIN, ALICE)
    )
    return Credentials(admins, [(), *mentees])


def test_malformed_requests_get_valid_answers_and_the_next_user_is_served(
    app: AppServer, routes: list[Route], guests: Credentials
) -> None:
    before = workers(app)

    answers = MalformedLoad(app, routes, guests).run(REQUESTS)

    assert [answer for answer in answers if answer.fault] == []
    assert [line for line in lines_of(app.log) if any(t in line for t in ERROR_MARKS)] == []
    assert is_served(request_as(app, BOB))
    assert workers(app) == before


def lines_of(log: Path) -> list[str]:
    return log.read_text().splitlines()
