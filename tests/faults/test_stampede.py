"""A hundred concurrent requests of one new user to two gunicorn processes."""

from functools import partial

from benchmarks.databases import count
from benchmarks.servers import AppServer, logged_events, request_as, workers
from tests.support.clients import concurrently
from tests.support.users import BOB

REQUESTS = 100


def test_hundred_concurrent_ensures_of_one_new_user_create_one_profile(
    app: AppServer, url: str
) -> None:
    answers = concurrently(lambda call: call(), [partial(request_as, app, BOB)] * REQUESTS)

    bodies = [answer.json() for answer in answers]
    assert {answer.status_code for answer in answers} == {200, 201}
    assert len({body["mentorado"]["id"] for body in bodies}) == 1
    assert sum(body["created"] for body in bodies) == 1
    assert count(url, "SELECT count(*) FROM mentorados") == 1
    assert {line["pid"] for line in logged_events(app, "session_invalidated")} == {
        worker.pid for worker in workers(app)
    }
