"""PostgreSQL crashes during a hundred first logins and restarts."""

from functools import partial

import pytest
import requests

from benchmarks.databases import count
from benchmarks.servers import (
    AppServer,
    PostgresServer,
    eventually,
    is_retryable,
    is_served,
    request_as,
    workers,
)
from dev.fake_clerk import DevUser
from tests.support.clients import new_users, run_with_few_threads

pytestmark = pytest.mark.real_time_limits

USERS = new_users(100)
RESTARTING_USER = USERS[40]


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    """The URL of a database on a server that may crash."""
    return postgres.url


def sign_in(app: AppServer, postgres: PostgresServer, user: DevUser) -> requests.Response:
    """Sign in; one user crashes the database before, restarts it after, and signs in again."""
    if user != RESTARTING_USER:
        return request_as(app, user)
    postgres.crash()
    answer = request_as(app, user)
    postgres.start()
    assert eventually(lambda: is_served(request_as(app, user)), seconds=4)
    return answer


def test_every_user_gets_a_profile_despite_a_database_restart(
    app: AppServer, postgres: PostgresServer
) -> None:
    before = workers(app)

    answers = run_with_few_threads(partial(sign_in, app, postgres), USERS)
    later = run_with_few_threads(partial(request_as, app), USERS)

    refused = [answer for answer in answers if not is_served(answer)]
    assert answers[USERS.index(RESTARTING_USER)] in refused
    assert [answer.text for answer in refused if not is_retryable(answer)] == []
    assert (sum(map(is_served, later)), workers(app)) == (len(USERS), before)
    assert count(postgres.url, "SELECT count(user_id) FROM mentorados") == len(USERS)
