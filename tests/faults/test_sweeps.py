"""Sweeps in several processes at once, whose owners die, among people who sign in meanwhile."""

from collections.abc import Callable
from functools import partial

import psutil
import pytest
import requests

from dev.clients import (
    ADMIN,
    concurrently,
    few_at_a_time,
    is_served,
    new_users,
    queue_length,
    request_as,
)
from dev.databases import connect_to, count, locking
from dev.fake_clerk import DevUser
from dev.servers import Served, eventually

ABSENT = """
INSERT INTO users (clerk_id, name, email, email_verified)
SELECT 'user_' || i, 'Pessoa ' || i, 'pessoa' || i || '@example.com', {verified}
  FROM generate_series(0, {people} - 1) AS i
"""
EXPECTED = """
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
CROWD = [DevUser(f"user_new_{i}", f"Nova {i}", f"nova{i}@example.com") for i in range(60)]
PROFILES = "SELECT count(user_id) FROM mentorados"
CREATIONS = "SELECT count(*) FROM audit_events WHERE event = 'mentorado_created'"
ACTIVE = "SELECT count(*) FROM sweep_runs WHERE status IN ('queued', 'running')"
RUNNING = "SELECT count(*) FROM sweep_runs WHERE status = 'running'"
BY_STATUS = "SELECT count(*) FROM sweep_runs WHERE status = '{status}' AND scanned > 0"


@pytest.fixture(autouse=True)
def first_run(app: Served, url: str) -> None:
    """The clock's run at the start is over, so that it finds none of the test's people."""
    assert eventually(lambda: count(url, "SELECT count(*) FROM sweep_runs") >= 1)
    assert eventually(lambda: count(url, ACTIVE) == 0)


def fill(url: str, people: int, *, ambiguous: bool = False) -> None:
    """People whom the database knows without a profile; if ambiguous, two wait for each."""
    with connect_to(url) as connection:
        connection.exec_driver_sql(ABSENT.format(people=people, verified=ambiguous))
        if ambiguous:
            connection.exec_driver_sql(EXPECTED)


def sweep(app: Served, _: object = None) -> requests.Response:
    return request_as(app, ADMIN, "/api/admin/sweeps")


def latest(app: Served) -> dict[str, object]:
    runs: list[dict[str, object]] = request_as(app, ADMIN, "/api/admin/sweeps", "GET").json()[
        "items"
    ]
    return runs[0]


def owner(url: str) -> psutil.Process:
    """The process that runs the sweep."""
    with connect_to(url) as connection:
        name = connection.exec_driver_sql(
            "SELECT owner FROM sweep_runs WHERE status = 'running'"
        ).scalar_one()
    return psutil.Process(int(name.split(":")[1]))


def runs_with(url: str, status: str) -> int:
    return count(url, BY_STATUS.format(status=status))


@pytest.mark.parametrize("settings", [{"WEB_CONCURRENCY": "4", "SWEEP_INTERVAL_SECONDS": "1"}])
def test_ten_requests_and_the_clocks_of_four_processes_make_one_run(
    app: Served, url: str, turnstile: str
) -> None:
    with locking(url, turnstile):
        fill(url, people=50)
        answers = concurrently(partial(sweep, app), range(10))
        assert eventually(lambda: queue_length(url) == 1)
    assert eventually(lambda: count(url, PROFILES) == 50)

    ids = {answer.json()["id"] for answer in answers}
    accepted = [answer for answer in answers if answer.status_code == 202]
    assert (len(ids), len(accepted) <= 1) == (1, True)
    assert eventually(lambda: runs_with(url, "succeeded") == 1)
    assert count(url, CREATIONS) == 50


def test_run_of_a_killed_owner_is_abandoned_and_another_process_finishes_the_work(
    app: Served, url: str, turnstile: str
) -> None:
    fill(url, people=50)
    with locking(url, turnstile):
        sweep(app)
        assert eventually(lambda: queue_length(url) == 1)
        owner(url).kill()

    assert eventually(lambda: latest(app)["status"] == "succeeded", seconds=30)

    abandoned = count(url, "SELECT count(*) FROM sweep_runs WHERE status = 'abandoned'")
    assert (abandoned, count(url, PROFILES), count(url, CREATIONS)) == (1, 50, 50)


def test_run_of_a_stopping_owner_goes_on_in_another_process_and_nobody_sees_an_error(
    app: Served, url: str, turnstile: str
) -> None:
    fill(url, people=600, ambiguous=True)
    with locking(url, turnstile):
        sweep(app)
        assert eventually(lambda: queue_length(url) == 1)
        owner(url).terminate()
    answers = concurrently(partial(request_as, app), CROWD)

    assert [answer.text for answer in answers if not is_served(answer)] == []
    assert eventually(
        lambda: count(url, RUNNING) == 0 and latest(app)["status"] == "succeeded", seconds=30
    )
    assert (runs_with(url, "succeeded"), count(url, PROFILES)) == (1, 600 + len(CROWD))


def test_long_step_of_a_stopping_owner_keeps_no_other_process_from_the_run(
    app: Served, url: str, turnstile: str
) -> None:
    fill(url, people=50)
    with locking(url, turnstile):
        sweep(app)
        assert eventually(lambda: queue_length(url) == 1)
        first = owner(url)
        first.terminate()
        elsewhere = f"{RUNNING} AND owner NOT LIKE '%:{first.pid}:%'"
        assert eventually(lambda: count(url, elsewhere) == 1)

    assert eventually(lambda: latest(app)["status"] == "succeeded", seconds=30)
    assert count(url, PROFILES) == count(url, CREATIONS) == 50


def test_five_poisoned_people_among_a_thousand_stop_nobody_else(app: Served, url: str) -> None:
    fill(url, people=1000)
    with connect_to(url) as connection:
        connection.exec_driver_sql(POISON)

    sweep(app)

    assert eventually(lambda: latest(app)["status"] == "succeeded", seconds=30)
    assert (latest(app)["created"], latest(app)["failed"]) == (995, 5)
    assert count(url, PROFILES) == 995
    assert count(url, "SELECT count(*) FROM provisioning_attempts WHERE attempts = 1") == 5


def test_people_who_sign_in_while_they_are_swept_have_one_profile_each(
    app: Served, url: str
) -> None:
    people = new_users(300)
    fill(url, people=300)
    calls: list[Callable[[], requests.Response]] = [partial(request_as, app, one) for one in people]
    calls.insert(8, partial(sweep, app))

    answers = few_at_a_time(lambda call: call(), calls)

    assert eventually(lambda: latest(app)["status"] == "succeeded")
    assert [a.text for a in answers if not is_served(a) and a.status_code != 202] == []
    assert count(url, PROFILES) == count(url, CREATIONS) == len(people)
