"""PostgreSQL crashes in the middle of a hundred first logins and comes back."""

from functools import partial

import pytest
import requests

from dev.clients import few_at_a_time, is_retryable, is_served, new_users, request_as
from dev.databases import count
from dev.fake_clerk import DevUser
from dev.servers import Postgres, Served, eventually, workers

PEOPLE = new_users(100)
WITNESS = PEOPLE[40]


@pytest.fixture
def url(postgres: Postgres) -> str:
    """A database on a server that may crash."""
    return postgres.url


def sign_in(app: Served, postgres: Postgres, person: DevUser) -> requests.Response:
    """Sign in; the witness does so while there is no database, and again when it is back."""
    if person != WITNESS:
        return request_as(app, person)
    postgres.crash()
    answer = request_as(app, person)
    postgres.start()
    assert eventually(lambda: is_served(request_as(app, person)), seconds=4)
    return answer


def test_database_that_crashes_and_returns_costs_nobody_their_profile(
    app: Served, postgres: Postgres
) -> None:
    before = workers(app)

    answers = few_at_a_time(partial(sign_in, app, postgres), PEOPLE)
    later = few_at_a_time(partial(request_as, app), PEOPLE)

    refused = [answer for answer in answers if not is_served(answer)]
    assert answers[PEOPLE.index(WITNESS)] in refused
    assert [answer.text for answer in refused if not is_retryable(answer)] == []
    assert (sum(map(is_served, later)), workers(app)) == (len(PEOPLE), before)
    assert count(postgres.url, "SELECT count(user_id) FROM mentorados") == len(PEOPLE)
