"""Two hundred first logins while the database cuts all connections again and again."""

from functools import partial

import requests

from dev.clients import few_at_a_time, is_retryable, is_served, new_users, request_as
from dev.databases import count
from dev.fake_clerk import DevUser
from dev.servers import Served, logged

PEOPLE = new_users(200)
BRINGING_SCISSORS = PEOPLE[::8]
CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'neon-dashboard'
"""


def test_cut_connections_cost_nobody_their_profile(app: Served, url: str) -> None:
    def sign_in(person: DevUser) -> requests.Response:
        if person in BRINGING_SCISSORS:
            count(url, CUT)
        return request_as(app, person, "/api/mentorados/me/overview", "GET")

    answers = few_at_a_time(sign_in, PEOPLE)
    later = few_at_a_time(partial(request_as, app), PEOPLE)

    assert [a.text for a in answers if not is_served(a) and not is_retryable(a)] == []
    assert logged(app, "mentorado_ensure_retried") != []
    assert sum(map(is_served, later)) == len(PEOPLE)
    assert count(url, "SELECT count(user_id) FROM mentorados") == len(PEOPLE)
