"""Each worker process connects to the database before its first request, preloaded or not."""

import pytest

from benchmarks.databases import count
from benchmarks.servers import AppServer, eventually, is_served, request_as, workers
from tests.support.clients import concurrently, new_users

CONNECTIONS = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'neon-dashboard'
"""
BASE_SETTINGS = {"SCHEDULER": "off", "WEB_CONCURRENCY": "2"}


@pytest.mark.parametrize(
    "settings",
    [BASE_SETTINGS, {**BASE_SETTINGS, "GUNICORN_CMD_ARGS": "--preload"}],
    ids=["forked", "preloaded"],
)
def test_every_worker_has_its_own_connection_before_its_first_request(
    app: AppServer, url: str
) -> None:
    assert eventually(lambda: len(workers(app)) == 2)
    assert eventually(lambda: count(url, CONNECTIONS) >= 2)  # schedulers may have some as well

    answers = concurrently(lambda user: request_as(app, user), new_users(20))

    assert [answer.text for answer in answers if not is_served(answer)] == []
