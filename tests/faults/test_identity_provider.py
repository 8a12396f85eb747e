"""Tokens without user data, and a Clerk API that fails, is slow or limits requests."""

import math
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import requests

from benchmarks.databases import connect_to, count
from benchmarks.servers import AppServer, eventually, is_served
from dev.fake_clerk import DevUser
from tests.support.clerk_server import BackendFault, Clerk, run_clerk
from tests.support.clients import concurrently, new_users, run_with_few_threads
from tests.support.servers import run_test_app
from tests.support.stopwatch import stopwatch

EVA = DevUser("user_eva", "Eva Melo", "eva@example.com")
PRE_REGISTER_EVA = """
INSERT INTO mentorados (nome_completo, email, turma, meta_leads)
VALUES ('Eva Pré', 'eva@example.com', 'neon', 77)
"""
PROFILES = "SELECT count(*) FROM mentorados WHERE user_id IS NOT NULL"
NAMED = "SELECT count(*) FROM mentorados WHERE nome_completo = :name"
LINKED = "SELECT count(*) FROM mentorados WHERE meta_leads = 77 AND user_id IS NOT NULL"
# The newest users are refreshed first, so that the unusable ones could block the others.
INCOMPLETE = """
INSERT INTO users (clerk_id) SELECT 'user_' || i FROM generate_series(0, {number} - 1) AS i
UNION ALL VALUES ('user_unusable'), ('')
"""
COMPLETE = " WHERE identity_completed_at IS NOT NULL"
ATTEMPTS = "SELECT coalesce(max(attempts), 0) FROM provisioning_attempts WHERE error_code = '422'"
FIRST_PAUSE_SECONDS = 1.0
DOWN = BackendFault("500 Internal Server Error")


@pytest.fixture
def clerk(tmp_path: Path) -> Iterator[Clerk]:
    """A Clerk server for one test."""
    with run_clerk(tmp_path / "clerk") as clerk:
        yield clerk


@pytest.fixture
def app(
    url: str,
    tmp_path: Path,
    clerk: Clerk,
    settings: dict[str, str],
    request: pytest.FixtureRequest,
) -> Iterator[AppServer]:
    """The app as a client of that Clerk server; it sweeps every second."""
    defaults = {"DATABASE_URL": url, "SWEEP_INTERVAL_SECONDS": "1"}
    with run_test_app(tmp_path, request, **clerk.settings, **defaults, **settings) as app:
        yield app


def request_profile(app: AppServer, clerk: Clerk, user: DevUser) -> requests.Response:
    headers = clerk.bearer(user)
    return requests.get(f"{app.url}/api/mentorados/me", headers=headers, timeout=30)


def test_fifty_first_requests_of_one_user_call_clerk_once(
    app: AppServer, clerk: Clerk, url: str
) -> None:
    headers = clerk.bearer(EVA)
    send = partial(requests.get, headers=headers, timeout=30)

    answers = concurrently(send, [f"{app.url}/api/mentorados/me"] * 50)

    assert [answer.text for answer in answers if not is_served(answer)] == []
    assert {answer.json()["nome_completo"] for answer in answers} == {"Eva Melo"}
    assert (clerk.calls, count(url, PROFILES)) == (["/local-clerk/v1/users/user_eva"], 1)


def test_first_login_links_by_an_address_that_only_clerk_has(
    app: AppServer, clerk: Clerk, url: str
) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(PRE_REGISTER_EVA)

    answer = request_profile(app, clerk, EVA)

    assert (answer.json()["meta_leads"], count(url, PROFILES)) == (77, 1)


def test_profile_is_linked_after_an_outage_without_another_login(
    app: AppServer, clerk: Clerk, url: str
) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(PRE_REGISTER_EVA)
    clerk.fault = DOWN
    first = request_profile(app, clerk, EVA)
    assert (first.status_code, first.json()["nome_completo"]) == (200, "Novo Usuário")

    clerk.fault = None

    assert eventually(lambda: count(url, LINKED) == 1, seconds=20)
    assert (count(url, PROFILES), request_profile(app, clerk, EVA).json()["meta_leads"]) == (1, 77)


def test_unusable_answer_about_one_user_blocks_no_other_user(
    app: AppServer, clerk: Clerk, url: str
) -> None:
    clerk.answers["user_unusable"] = BackendFault("422 Unprocessable Content")
    for user in new_users(20):
        clerk.provider.save_user(user)
    with connect_to(url) as connection:
        connection.exec_driver_sql(INCOMPLETE.format(number=20))

    began = time.monotonic()
    assert eventually(lambda: count(url, "SELECT count(*) FROM users" + COMPLETE) == 21, seconds=30)

    def calls() -> int:
        return clerk.calls.count("/local-clerk/v1/users/user_unusable")

    assert eventually(lambda: 0 < calls() == count(url, ATTEMPTS))
    assert calls() <= 2 + math.log2(1 + time.monotonic() - began)  # each pause is twice as long
    assert "/local-clerk/v1/users/" not in clerk.calls


@pytest.mark.parametrize("settings", [{"SCHEDULER": "off"}])
def test_outage_does_not_cause_a_call_for_each_request(
    app: AppServer, clerk: Clerk, url: str
) -> None:
    clerk.fault = DOWN
    began = time.monotonic()

    answers = run_with_few_threads(partial(request_profile, app, clerk), new_users(40))

    # Eight calls start before the first failure is known, then one probe follows each second.
    max_calls = 8 + (time.monotonic() - began) / FIRST_PAUSE_SECONDS
    assert [answer.text for answer in answers if not is_served(answer)] == []
    assert (len(clerk.calls) <= max_calls, count(url, PROFILES)) == (True, 40)


@pytest.mark.parametrize("settings", [{"SCHEDULER": "off"}])
def test_rate_limit_of_clerk_stops_further_calls(app: AppServer, clerk: Clerk, url: str) -> None:
    clerk.fault = BackendFault("429 Too Many Requests", [("Retry-After", "60")])

    answers = [request_profile(app, clerk, user) for user in new_users(10)]

    assert [answer.text for answer in answers if not is_served(answer)] == []
    assert (len(clerk.calls), count(url, PROFILES)) == (1, 10)


@pytest.mark.real_time_limits
def test_silent_clerk_does_not_delay_the_request(app: AppServer, clerk: Clerk, url: str) -> None:
    clerk.fault = BackendFault(blocked_until=threading.Event())

    with stopwatch() as watch:
        answer = request_profile(app, clerk, EVA)

    assert (answer.status_code, watch.seconds < 2.0) == (200, True)
    assert clerk.fault.blocked_until is not None
    clerk.fault.blocked_until.set()
    assert eventually(lambda: count(url, NAMED, name="Eva Melo") == 1, seconds=20)


def test_requests_succeed_during_a_key_rotation(app: AppServer, clerk: Clerk, url: str) -> None:
    def request_during_rotation(user: DevUser) -> list[requests.Response]:
        headers = clerk.bearer(user)
        if user.clerk_id == "user_20":
            clerk.provider.rotate()
        send = partial(requests.get, f"{app.url}/api/mentorados/me", headers=headers, timeout=30)
        return [send(), send()]

    answers = run_with_few_threads(request_during_rotation, new_users(40))

    assert [a.text for pair in answers for a in pair if not is_served(a)] == []
    assert count(url, PROFILES) == 40
