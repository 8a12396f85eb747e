"""Another program locks one user's row: only that user gets a 503."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from benchmarks.databases import connect_to, count, hold_locks
from benchmarks.servers import (
    AppServer,
    eventually,
    is_retryable,
    is_served,
    logged_events,
    request_as,
    run_app,
)
from dev.fake_clerk import DevUser
from tests.support.clients import code_of, concurrently, new_users, queue_length
from tests.support.users import ALICE, BOB

pytestmark = pytest.mark.real_time_limits

OTHERS = new_users(20)
GRANT = "UPDATE users SET role = 'admin' WHERE clerk_id = '{}'"
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


@pytest.fixture(scope="module")
def shared_url(copy_database: Callable[[str], str]) -> str:
    return copy_database("held_lock")


@pytest.fixture(scope="module")
def shared_app(shared_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """An app whose contexts expire after one second; each test has its own user."""
    folder = tmp_path_factory.mktemp("held_lock")
    with run_app(folder, DATABASE_URL=shared_url, SESSION_TTL_SECONDS="1") as app:
        yield app


def test_existing_user_sees_the_dashboard_while_locked(
    shared_app: AppServer, shared_url: str
) -> None:
    request_as(shared_app, ALICE, "/dashboard", "GET")

    def is_shown_despite_a_failure() -> bool:
        before = len(logged_events(shared_app, "mentorado_creation_failed"))
        status = request_as(shared_app, ALICE, "/dashboard", "GET").status_code
        after = len(logged_events(shared_app, "mentorado_creation_failed"))
        return status == 200 and after > before

    with hold_locks(shared_url, "SELECT 1 FROM users FOR UPDATE"):
        assert eventually(is_shown_despite_a_failure)


DENIALS = {
    "demoted": ("UPDATE users SET role = 'user' WHERE clerk_id = '{}'", "forbidden"),
    "blocked": ("UPDATE users SET blocked_at = now() WHERE clerk_id = '{}'", "user_blocked"),
    "deleted": ("UPDATE users SET deleted_at = now() WHERE clerk_id = '{}'", "unauthenticated"),
}


@pytest.mark.parametrize("denial", DENIALS)
def test_denied_user_stays_denied_while_locked(
    shared_app: AppServer, shared_url: str, denial: str
) -> None:
    user, (statement, code) = DevUser(f"user_{denial}", "Bob"), DENIALS[denial]
    request_as(shared_app, user)
    with connect_to(shared_url) as connection:
        connection.exec_driver_sql(GRANT.format(user.clerk_id))
    request_as(shared_app, user)
    assert request_as(shared_app, user, "/api/admin/users", "GET").status_code == 200
    with connect_to(shared_url) as connection:
        connection.exec_driver_sql(statement.format(user.clerk_id))

    with hold_locks(shared_url, "SELECT 1 FROM users FOR UPDATE"):
        assert eventually(
            lambda: code_of(request_as(shared_app, user, "/api/admin/users", "GET")) == code,
            seconds=7,
        )
        later = [request_as(shared_app, user, "/api/admin/users", "GET") for _ in range(3)]

    assert [code_of(answer) for answer in later] == [code] * 3
