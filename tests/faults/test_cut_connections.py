"""Two hundred first logins while all database connections are terminated repeatedly."""

from functools import partial

import pytest
import requests

from benchmarks.databases import count
from benchmarks.servers import AppServer, is_retryable, is_served, logged_events, request_as
from dev.fake_clerk import DevUser
from tests.support.clients import new_users, run_with_few_threads

pytestmark = pytest.mark.real_time_limits

USERS = new_users(200)
USERS_WITH_CUT = USERS[::8]
TERMINATE_CONNECTIONS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'neon-dashboard'
"""


def test_every_user_gets_a_profile_despite_terminated_connections(app: AppServer, url: str) -> None:
    def sign_in(user: DevUser) -> requests.Response:
        if user in USERS_WITH_CUT:
            count(url, TERMINATE_CONNECTIONS)
        return request_as(app, user, "/api/mentorados/me/overview", "GET")

    answers = run_with_few_threads(sign_in, USERS)
    later = run_with_few_threads(partial(request_as, app), USERS)

    assert [a.text for a in answers if not is_served(a) and not is_retryable(a)] == []
    assert logged_events(app, "mentorado_ensure_retried") != []
    assert sum(map(is_served, later)) == len(USERS)
    assert count(url, "SELECT count(user_id) FROM mentorados") == len(USERS)
