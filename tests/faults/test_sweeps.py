"""Sweeps in several processes, with killed and stopped owners and concurrent logins."""

from collections.abc import Callable
from functools import partial

import psutil
import pytest
import requests

from benchmarks.databases import connect_to, count, hold_locks
from benchmarks.servers import AppServer, eventually, has_ended, is_served, request_as
from dev.fake_clerk import DevUser
from tests.support.clients import ADMIN, concurrently, new_users, queue_length, run_with_few_threads

ADD_USERS = """
INSERT INTO users (clerk_id, name, email, email_verified)
SELECT 'user_' || i, 'Pessoa ' || i, 'pessoa' || i || '@example.com', {verified}
  FROM generate_series(0, {number} - 1) AS i
"""
PRE_REGISTER_TWO_EACH = """
INSERT INTO mentorados (nome_completo, email, turma)
SELECT name, email, 'neon' FROM users, generate_series(1, 2)
"""
POISON = """
CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF NEW.nome_completo ~ '^Pessoa (0|1|500|998|999)$' THEN
    RAISE EXCEPTION 'poisoned' USING ERRCODE = '23514';
END IF; RETURN NEW; END $$;
CREATE TRIGGER poison BEFORE INSERT ON mentorados FOR EACH ROW EXECUTE FUNCTION poison();
"""
NEW_USERS = [DevUser(f"user_new_{i}", f"Nova {i}", f"nova{i}@example.com") for i in range(60)]
PROFILES = "SELECT count(user_id) FROM mentorados"
CREATIONS = "SELECT count(*) FROM audit_events WHERE event = 'mentorado_created'"
ACTIVE = "SELECT count(*) FROM sweep_runs WHERE status IN ('queued', 'running')"
RUNNING = "SELECT count(*) FROM sweep_runs WHERE status = 'running'"
BY_STATUS = "SELECT count(*) FROM sweep_runs WHERE status = '{status}' AND scanned > 0"


@pytest.fixture(autouse=True)
def first_run(app: AppServer, url: str) -> None:
    """Wait for the end of the scheduler's first run, before the test adds users."""
    assert eventually(lambda: count(url, "SELECT count(*) FROM sweep_runs") >= 1)
    assert eventually(lambda: count(url, ACTIVE) == 0)


def fill(url: str, number: int, *, ambiguous: bool = False) -> None:
    """Add users without a profile; if ambiguous, with two pre-registered profiles each."""
    with connect_to(url) as connection:
        connection.exec_driver_sql(ADD_USERS.format(number=number, verified=ambiguous))
        if ambiguous:
            connection.exec_driver_sql(PRE_REGISTER_TWO_EACH)


def sweep(app: AppServer, _: object = None) -> requests.Response:
    return request_as(app, ADMIN, "/api/admin/sweeps")


def latest_run(app: AppServer) -> dict[str, object]:
    runs: list[dict[str, object]] = request_as(app, ADMIN, "/api/admin/sweeps", "GET").json()[
        "items"
    ]
    return runs[0]


def owner(url: str) -> psutil.Process:
    """Return the process that runs the sweep."""
    with connect_to(url) as connection:
        name = connection.exec_driver_sql(
            "SELECT owner FROM sweep_runs WHERE status = 'running'"
        ).scalar_one()
    return psutil.Process(int(name.split(":")[1]))


def runs_with(url: str, status: str) -> int:
    return count(url, BY_STATUS.format(status=status))


@pytest.mark.parametrize("settings", [{"WEB_CONCURRENCY": "4", "SWEEP_INTERVAL_SECONDS": "1"}])
def test_ten_requests_and_four_schedulers_start_one_run(
    app: AppServer, url: str, barrier: str
) -> None:
    with hold_locks(url, barrier):
        fill(url, number=50)
        answers = concurrently(partial(sweep, app), range(10))
        assert eventually(lambda: queue_length(url) == 1)
    assert eventually(lambda: count(url, PROFILES) == 50)

    ids = {answer.json()["id"] for answer in answers}
    accepted = [answer for answer in answers if answer.status_code == 202]
    assert (len(ids), len(accepted) <= 1) == (1, True)
    assert eventually(lambda: runs_with(url, "succeeded") == 1)
    assert count(url, CREATIONS) == 50


def test_run_of_a_killed_owner_is_abandoned_and_restarted_by_another_process(
    app: AppServer, url: str, barrier: str, expire_lease: Callable[[], None]
) -> None:
    fill(url, number=50)
    with hold_locks(url, barrier):
        sweep(app)
        assert eventually(lambda: queue_length(url) == 1)
        killed = owner(url)
        killed.kill()
        assert eventually(lambda: has_ended(killed))
    expire_lease()

    assert eventually(lambda: latest_run(app)["status"] == "succeeded", seconds=30)

    abandoned = count(url, "SELECT count(*) FROM sweep_runs WHERE status = 'abandoned'")
    assert (abandoned, count(url, PROFILES), count(url, CREATIONS)) == (1, 50, 50)


def test_run_of_a_stopping_owner_continues_in_another_process_without_errors(
    app: AppServer, url: str, barrier: str
) -> None:
    fill(url, number=600, ambiguous=True)
    with hold_locks(url, barrier):
        sweep(app)
        assert eventually(lambda: queue_length(url) == 1)
        owner(url).terminate()
    answers = concurrently(partial(request_as, app), NEW_USERS)

    assert [answer.text for answer in answers if not is_served(answer)] == []
    assert eventually(
        lambda: count(url, RUNNING) == 0 and latest_run(app)["status"] == "succeeded", seconds=30
    )
    assert (runs_with(url, "succeeded"), count(url, PROFILES)) == (1, 600 + len(NEW_USERS))


def test_long_step_of_a_stopping_owner_does_not_block_the_next_owner(
    app: AppServer, url: str, barrier: str
) -> None:
    fill(url, number=50)
    with hold_locks(url, barrier):
        sweep(app)
        assert eventually(lambda: queue_length(url) == 1)
        first = owner(url)
        first.terminate()
        other_owner = f"{RUNNING} AND owner NOT LIKE '%:{first.pid}:%'"
        assert eventually(lambda: count(url, other_owner) == 1)

    assert eventually(lambda: latest_run(app)["status"] == "succeeded", seconds=30)
    assert count(url, PROFILES) == count(url, CREATIONS) == 50


def test_five_failing_users_among_a_thousand_block_no_other_user(app: AppServer, url: str) -> None:
    fill(url, number=1000)
    with connect_to(url) as connection:
        connection.exec_driver_sql(POISON)

    sweep(app)

    assert eventually(lambda: latest_run(app)["status"] == "succeeded", seconds=30)
    assert (latest_run(app)["created"], latest_run(app)["failed"]) == (995, 5)
    assert count(url, PROFILES) == 995
    assert count(url, "SELECT count(*) FROM provisioning_attempts WHERE attempts = 1") == 5


def test_users_who_sign_in_during_a_sweep_have_one_profile_each(app: AppServer, url: str) -> None:
    users = new_users(300)
    fill(url, number=300)
    calls: list[Callable[[], requests.Response]] = [
        partial(request_as, app, user) for user in users
    ]
    calls.insert(8, partial(sweep, app))

    answers = run_with_few_threads(lambda call: call(), calls)

    assert eventually(lambda: latest_run(app)["status"] == "succeeded")
    assert [a.text for a in answers if not is_served(a) and a.status_code != 202] == []
    assert count(url, PROFILES) == count(url, CREATIONS) == len(users)
