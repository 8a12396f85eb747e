"""Tokens that say nothing about their person, and a provider that has its own troubles."""

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import requests

from dev.clients import concurrently, few_at_a_time, is_served, new_users
from dev.databases import connect_to, count
from dev.fake_clerk import DevUser
from dev.servers import Served, eventually, served
from tests.support.clerk_server import Clerk, Trouble, clerk_in

EVA = DevUser("user_eva", "Eva Melo", "eva@example.com")
EXPECTED = """
INSERT INTO mentorados (nome_completo, email, turma, meta_leads)
VALUES ('Eva Pré', 'eva@example.com', 'neon', 77)
"""
PROFILES = "SELECT count(*) FROM mentorados WHERE user_id IS NOT NULL"
NAMED = "SELECT count(*) FROM mentorados WHERE nome_completo = :name"
LINKED = "SELECT count(*) FROM mentorados WHERE meta_leads = 77 AND user_id IS NOT NULL"
# The newest come first, so that the strange ones would stand in everybody's way.
INCOMPLETE = """
INSERT INTO users (clerk_id) SELECT 'user_' || i FROM generate_series(0, {people} - 1) AS i
UNION ALL VALUES ('user_strange'), ('')
"""
COMPLETE = " WHERE identity_completed_at IS NOT NULL"
ATTEMPTS = "SELECT count(*) FROM provisioning_attempts WHERE error_code = '422' AND attempts = 1"
FIRST_PAUSE_SECONDS = 1.0
DOWN = Trouble("500 Internal Server Error")


@pytest.fixture
def clerk(tmp_path: Path) -> Iterator[Clerk]:
    """A Clerk of the test's own."""
    with clerk_in(tmp_path / "clerk") as clerk:
        yield clerk


@pytest.fixture
def app(url: str, tmp_path: Path, clerk: Clerk, settings: dict[str, str]) -> Iterator[Served]:
    """The app as a customer of that Clerk; its clock sweeps every second."""
    usual = {"DATABASE_URL": url, "SWEEP_INTERVAL_SECONDS": "1"}
    with served(tmp_path, **clerk.settings, **usual, **settings) as app:
        yield app


def visit(app: Served, clerk: Clerk, person: DevUser) -> requests.Response:
    headers = clerk.bearer(person)
    return requests.get(f"{app.url}/api/mentorados/me", headers=headers, timeout=30)


def test_fifty_first_requests_of_one_person_ask_once(app: Served, clerk: Clerk, url: str) -> None:
    headers = clerk.bearer(EVA)
    ask = partial(requests.get, headers=headers, timeout=30)

    answers = concurrently(ask, [f"{app.url}/api/mentorados/me"] * 50)

    assert [answer.text for answer in answers if not is_served(answer)] == []
    assert {answer.json()["nome_completo"] for answer in answers} == {"Eva Melo"}
    assert (clerk.calls, count(url, PROFILES)) == (["/local-clerk/v1/users/user_eva"], 1)


def test_first_login_finds_what_waits_for_the_address_that_only_clerk_knows(
    app: Served, clerk: Clerk, url: str
) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(EXPECTED)

    answer = visit(app, clerk, EVA)

    assert (answer.json()["meta_leads"], count(url, PROFILES)) == (77, 1)


def test_outage_at_the_first_login_is_made_good_without_the_person(
    app: Served, clerk: Clerk, url: str
) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(EXPECTED)
    clerk.trouble = DOWN
    first = visit(app, clerk, EVA)
    assert (first.status_code, first.json()["nome_completo"]) == (200, "Novo Usuário")

    clerk.trouble = None

    assert eventually(lambda: count(url, LINKED) == 1, seconds=20)
    assert (count(url, PROFILES), visit(app, clerk, EVA).json()["meta_leads"]) == (1, 77)


def test_strange_answer_about_one_user_starves_nobody(app: Served, clerk: Clerk, url: str) -> None:
    clerk.strange["user_strange"] = Trouble("422 Unprocessable Content")
    for person in new_users(20):
        clerk.provider.save_user(person)
    with connect_to(url) as connection:
        connection.exec_driver_sql(INCOMPLETE.format(people=20))

    assert eventually(lambda: count(url, "SELECT count(*) FROM users" + COMPLETE) == 21, seconds=30)

    assert eventually(lambda: count(url, ATTEMPTS) == 1)
    assert clerk.calls.count("/local-clerk/v1/users/user_strange") == 1
    assert "/local-clerk/v1/users/" not in clerk.calls


@pytest.mark.parametrize("settings", [{"SCHEDULER": "off"}])
def test_outage_costs_nothing_per_request(app: Served, clerk: Clerk, url: str) -> None:
    clerk.trouble = DOWN
    began = time.monotonic()

    answers = few_at_a_time(partial(visit, app, clerk), new_users(40))

    # Eight come before the first failure is known, then one a second finds out whether it is over.
    questions = 8 + (time.monotonic() - began) / FIRST_PAUSE_SECONDS
    assert [answer.text for answer in answers if not is_served(answer)] == []
    assert (len(clerk.calls) <= questions, count(url, PROFILES)) == (True, 40)


@pytest.mark.parametrize("settings", [{"SCHEDULER": "off"}])
def test_provider_that_asks_for_rest_is_left_alone(app: Served, clerk: Clerk, url: str) -> None:
    clerk.trouble = Trouble("429 Too Many Requests", [("Retry-After", "60")])

    answers = [visit(app, clerk, person) for person in new_users(10)]

    assert [answer.text for answer in answers if not is_served(answer)] == []
    assert (len(clerk.calls), count(url, PROFILES)) == (1, 10)


def test_provider_that_says_nothing_keeps_nobody_waiting(
    app: Served, clerk: Clerk, url: str
) -> None:
    clerk.trouble = Trouble(silence=threading.Event())
    began = time.monotonic()

    answer = visit(app, clerk, EVA)

    assert (answer.status_code, time.monotonic() - began < 2.0) == (200, True)
    assert clerk.trouble.silence is not None
    clerk.trouble.silence.set()
    assert eventually(lambda: count(url, NAMED, name="Eva Melo") == 1, seconds=20)


def test_rotated_keys_turn_nobody_away(app: Served, clerk: Clerk, url: str) -> None:
    def visit_in_the_midst_of_it(person: DevUser) -> list[requests.Response]:
        headers = clerk.bearer(person)
        if person.clerk_id == "user_20":
            clerk.provider.rotate()
        ask = partial(requests.get, f"{app.url}/api/mentorados/me", headers=headers, timeout=30)
        return [ask(), ask()]

    answers = few_at_a_time(visit_in_the_midst_of_it, new_users(40))

    assert [a.text for pair in answers for a in pair if not is_served(a)] == []
    assert count(url, PROFILES) == 40
