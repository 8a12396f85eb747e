"""Another program locks one user's row: only that user gets a 503."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from dev.clients import (
    code_of,
    concurrently,
    is_retryable,
    is_served,
    new_users,
    queue_length,
    request_as,
)
from dev.databases import connect_to, count, hold_locks
from dev.servers import AppServer, eventually, logged_events
from tests.support.users import ALICE, BOB

pytestmark = pytest.mark.real_time_limits

OTHERS = new_users(20)
SHORT_CACHE = {"WEB_CONCURRENCY": "1", "SESSION_TTL_SECONDS": "1"}
PROFILES = "SELECT count(user_id) FROM mentorados"


@pytest.fixture
def lock_bob(url: str) -> str:
    """A query that locks the row of Bob, a user without profile."""
    with connect_to(url) as connection:
        connection.exec_driver_sql(f"INSERT INTO users (clerk_id) VALUES ('{BOB.clerk_id}')")
    return f"SELECT 1 FROM users WHERE clerk_id = '{BOB.clerk_id}' FOR UPDATE"


def test_locked_user_gets_a_503_and_the_others_are_served(
    app: AppServer, url: str, lock_bob: str
) -> None:
    with ThreadPoolExecutor(1) as pool, hold_locks(url, lock_bob):
        bob = pool.submit(request_as, app, BOB)
        assert eventually(lambda: queue_length(url) == 1)
        others = concurrently(partial(request_as, app), OTHERS)
        refusal = bob.result()
    later = request_as(app, BOB)

    assert is_retryable(refusal)
    assert (sum(map(is_served, others)), later.status_code) == (len(OTHERS), 201)
    assert count(url, PROFILES) == len(OTHERS) + 1


@pytest.mark.parametrize("settings", [SHORT_CACHE])
def test_existing_user_sees_the_dashboard_while_locked(app: AppServer, url: str) -> None:
    statuses = [request_as(app, ALICE, "/dashboard", "GET").status_code]

    def has_failed_once() -> bool:
        statuses.append(request_as(app, ALICE, "/dashboard", "GET").status_code)
        return bool(logged_events(app, "mentorado_creation_failed"))

    with hold_locks(url, "SELECT 1 FROM users FOR UPDATE"):
        assert eventually(has_failed_once)

    assert set(statuses) == {200}


DENIALS = {
    "demoted": "UPDATE users SET role = 'user' WHERE clerk_id = 'user_bob'",
    "blocked": "UPDATE users SET blocked_at = now() WHERE clerk_id = 'user_bob'",
    "deleted": "UPDATE users SET deleted_at = now() WHERE clerk_id = 'user_bob'",
}
REFUSED = {"demoted": "forbidden", "blocked": "user_blocked", "deleted": "unauthenticated"}


@pytest.mark.parametrize("settings", [SHORT_CACHE])
@pytest.mark.parametrize("denial", DENIALS)
def test_denied_user_stays_denied_while_locked(app: AppServer, url: str, denial: str) -> None:
    request_as(app, BOB)
    with connect_to(url) as connection:
        connection.exec_driver_sql("UPDATE users SET role = 'admin'")
    request_as(app, BOB)
    assert request_as(app, BOB, "/api/admin/users", "GET").status_code == 200
    with connect_to(url) as connection:
        connection.exec_driver_sql(DENIALS[denial])

    with hold_locks(url, "SELECT 1 FROM users FOR UPDATE"):
        assert eventually(
            lambda: code_of(request_as(app, BOB, "/api/admin/users", "GET")) == REFUSED[denial],
            seconds=7,
        )
        later = [request_as(app, BOB, "/api/admin/users", "GET") for _ in range(3)]

    assert [code_of(answer) for answer in later] == [REFUSED[denial]] * 3
