"""What Clerk says later holds later: default tokens, no webhook, and a Clerk over HTTP."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from dev.databases import app_on, connect_to, count
from dev.fake_clerk import DevUser
from dev.servers import eventually
from provisioning.identity_refresh import LOOKUP_SECONDS
from sweep.scheduler import build_sweeper
from tests.support.clerk_server import Clerk, Trouble, clerk_in
from web.services import EXTENSION

EVA = DevUser("user_eva", "Eva Melo", "eva@example.com")
UNVERIFIED = replace(EVA, email_verified=False)
WITHOUT_ADDRESS = replace(EVA, email=None)
DONA = DevUser("user_dona", "Dona Admin", "dona@example.com")
EXPECTED = """
INSERT INTO mentorados (nome_completo, email, turma, meta_leads)
VALUES ('Eva Pré', 'eva@example.com', 'neon', 77)
"""
PROFILES = "SELECT count(*) FROM mentorados WHERE user_id IS NOT NULL"
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
ME, ADMIN = "/api/mentorados/me", "/api/admin/users"
DOWN = Trouble("500 Internal Server Error")


class Time:
    """The time of day, moved on by the test."""

    passed = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.passed


@pytest.fixture
def clerk(tmp_path: Path) -> Iterator[Clerk]:
    with clerk_in(tmp_path / "clerk") as clerk:
        yield clerk


@pytest.fixture
def passing() -> Time:
    return Time()


@pytest.fixture
def url(copy_database: Callable[[str], str], tmp_path: Path) -> str:
    return copy_database(f"refresh_{tmp_path.name}")


@pytest.fixture
def app(tmp_path: Path, url: str, clerk: Clerk, passing: Time) -> Iterator[Flask]:
    yield from _app(tmp_path / "one", url, clerk, passing)


@pytest.fixture
def other_app(tmp_path: Path, url: str, clerk: Clerk, passing: Time) -> Iterator[Flask]:
    """Another process on the same database, with a cache of its own."""
    yield from _app(tmp_path / "two", url, clerk, passing)


def _app(folder: Path, url: str, clerk: Clerk, passing: Time) -> Iterator[Flask]:
    settings: dict[str, Any] = {name.lower(): value for name, value in clerk.settings.items()}
    with app_on(folder, url, admin_emails=DONA.email, **settings) as app:
        app.extensions[EXTENSION] = replace(app.extensions[EXTENSION], now=passing)
        yield app
        assert eventually(lambda: app.extensions[EXTENSION].refresh.is_idle)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def visit(client: FlaskClient, clerk: Clerk, person: DevUser, path: str = ME) -> TestResponse:
    claims = {"sub": person.clerk_id, "sid": "sess_1"}
    headers = {"Authorization": f"Bearer {clerk.provider.sign(claims, 60)}"}
    return client.get(path, headers=headers)


def leads(answer: TestResponse) -> int:
    assert answer.json is not None
    return int(answer.json["meta_leads"])


@pytest.mark.parametrize("before", [UNVERIFIED, WITHOUT_ADDRESS], ids=["unverified", "absent"])
def test_address_verified_later_finds_its_profile_at_the_next_visit_after_a_minute(
    client: FlaskClient, clerk: Clerk, url: str, passing: Time, before: DevUser
) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(EXPECTED)
    clerk.provider.save_user(before)
    first = leads(visit(client, clerk, EVA))

    clerk.provider.save_user(EVA)
    early = leads(visit(client, clerk, EVA))
    passing.passed += MINUTE
    late = leads(visit(client, clerk, EVA))

    assert (first, early, late, count(url, PROFILES)) == (50, 50, 77, 1)


@pytest.mark.parametrize(
    "after", [replace(DONA, email=None), replace(DONA, email_verified=False)], ids=["gone", "lost"]
)
def test_admin_whose_address_was_taken_off_is_no_admin_after_a_day(
    client: FlaskClient, clerk: Clerk, passing: Time, after: DevUser
) -> None:
    clerk.provider.save_user(DONA)
    before = visit(client, clerk, DONA, ADMIN).status_code

    clerk.provider.save_user(after)
    passing.passed += DAY
    visit(client, clerk, DONA, ADMIN)

    assert before == 200
    assert eventually(lambda: visit(client, clerk, DONA, ADMIN).status_code == 403)


def test_address_added_to_the_list_makes_an_admin_after_a_day(
    client: FlaskClient, clerk: Clerk, passing: Time
) -> None:
    clerk.provider.save_user(replace(DONA, email="other@example.com"))
    before = visit(client, clerk, DONA, ADMIN).status_code

    clerk.provider.save_user(DONA)
    passing.passed += DAY
    visit(client, clerk, DONA, ADMIN)

    assert before == 403
    assert eventually(lambda: visit(client, clerk, DONA, ADMIN).status_code == 200)


def test_verified_user_costs_one_call_a_day(
    client: FlaskClient, clerk: Clerk, passing: Time
) -> None:
    clerk.provider.save_user(EVA)

    refresh, calls = client.application.extensions[EXTENSION].refresh, []
    for _ in range(3):
        for _ in range(100):
            assert visit(client, clerk, EVA).status_code == 200
        assert eventually(lambda: refresh.is_idle)
        calls.append(len(clerk.calls))
        passing.passed += DAY

    assert calls == [1, 2, 3]


def test_unverified_user_costs_one_call_a_minute(
    client: FlaskClient, clerk: Clerk, passing: Time
) -> None:
    clerk.provider.save_user(UNVERIFIED)

    for _ in range(3):
        for _ in range(100):
            assert visit(client, clerk, EVA).status_code == 200
        passing.passed += MINUTE

    assert len(clerk.calls) == 3


@pytest.mark.parametrize(
    ("person", "pause"), [(UNVERIFIED, MINUTE), (EVA, DAY)], ids=["unverified", "verified"]
)
def test_two_processes_ask_once(
    app: Flask, other_app: Flask, clerk: Clerk, passing: Time, person: DevUser, pause: timedelta
) -> None:
    clerk.provider.save_user(person)
    clients = [app.test_client(), other_app.test_client()]
    for client in clients:
        visit(client, clerk, EVA)
    before = len(clerk.calls)

    passing.passed += pause
    for _ in range(20):
        for client in clients:
            visit(client, clerk, EVA)

    assert eventually(
        lambda: all(each.extensions[EXTENSION].refresh.is_idle for each in (app, other_app))
    )
    assert [visit(client, clerk, EVA).status_code for client in clients] == [200, 200]
    assert len(clerk.calls) == before + 1


def test_provider_that_is_away_is_asked_after_a_pause_not_at_every_visit(
    client: FlaskClient, clerk: Clerk, passing: Time
) -> None:
    clerk.provider.save_user(UNVERIFIED)
    visit(client, clerk, EVA)
    clerk.trouble = DOWN
    passing.passed += MINUTE

    statuses = {visit(client, clerk, EVA).status_code for _ in range(20)}

    assert (statuses, len(clerk.calls)) == ({200}, 2)


def test_question_that_was_not_answered_is_asked_by_the_sweep(
    client: FlaskClient, clerk: Clerk, url: str, passing: Time
) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(EXPECTED)
    clerk.provider.save_user(UNVERIFIED)
    visit(client, clerk, EVA)
    clerk.provider.save_user(EVA)
    clerk.trouble = DOWN
    passing.passed += MINUTE
    during = leads(visit(client, clerk, EVA))

    clerk.trouble = None
    build_sweeper(client.application.extensions[EXTENSION].provisioning).start("clock")

    assert (during, leads(visit(client, clerk, EVA)), count(url, PROFILES)) == (50, 77, 1)


def test_background_question_that_fails_is_repeated_after_a_pause(
    client: FlaskClient, clerk: Clerk, passing: Time
) -> None:
    clerk.provider.save_user(EVA)
    visit(client, clerk, EVA)
    clerk.trouble = DOWN
    passing.passed += DAY

    for _ in range(20):
        assert visit(client, clerk, EVA).status_code == 200
    refresh = client.application.extensions[EXTENSION].refresh
    assert eventually(lambda: refresh.is_idle)
    visit(client, clerk, EVA)
    assert len(clerk.calls) == 2

    clerk.trouble = None
    passing.passed += 5 * MINUTE
    visit(client, clerk, EVA)
    assert eventually(lambda: len(clerk.calls) == 3)


def test_new_user_of_a_provider_that_is_away_is_asked_about_after_a_minute(
    client: FlaskClient, clerk: Clerk, passing: Time
) -> None:
    clerk.provider.save_user(EVA)
    clerk.trouble = DOWN
    for _ in range(20):
        visit(client, clerk, EVA)
    first = len(clerk.calls)

    clerk.trouble = None
    passing.passed += MINUTE
    directory = client.application.extensions[EXTENSION].provisioning.directory
    directory.look_up("user_x", is_background=True)  # as the sweep finds out that it is back
    answer = visit(client, clerk, EVA)

    assert (first, (answer.json or {})["nome_completo"]) == (1, EVA.name)


def test_visit_does_not_wait_for_a_background_question(
    client: FlaskClient, clerk: Clerk, passing: Time
) -> None:
    clerk.provider.save_user(EVA)
    visit(client, clerk, EVA)
    silence = Event()
    clerk.trouble = Trouble(silence=silence)
    passing.passed += DAY
    began = time.monotonic()

    answer = visit(client, clerk, EVA)

    waited = time.monotonic() - began
    silence.set()
    assert (answer.status_code, waited < LOOKUP_SECONDS) == (200, True)
    assert eventually(lambda: len(clerk.calls) == 2)


def test_token_with_all_claims_needs_no_call(
    client: FlaskClient, clerk: Clerk, passing: Time
) -> None:
    clerk.provider.save_user(UNVERIFIED)

    for _ in range(3):
        headers = {"Authorization": f"Bearer {clerk.provider.token(UNVERIFIED)}"}
        assert client.get(ME, headers=headers).status_code == 200
        passing.passed += DAY

    assert clerk.calls == []


def test_blocked_user_is_not_asked_about(
    client: FlaskClient, clerk: Clerk, url: str, passing: Time
) -> None:
    clerk.provider.save_user(UNVERIFIED)
    visit(client, clerk, EVA)
    with connect_to(url) as connection:
        connection.exec_driver_sql("UPDATE users SET blocked_at = now()")

    for _ in range(3):
        passing.passed += DAY
        assert visit(client, clerk, EVA).status_code == 403

    assert len(clerk.calls) == 1


def test_explicit_ensure_asks_no_more_often(
    client: FlaskClient, clerk: Clerk, passing: Time
) -> None:
    clerk.provider.save_user(UNVERIFIED)
    headers = {"Authorization": f"Bearer {clerk.provider.sign({'sub': 'user_eva'}, 60)}"}

    for _ in range(20):
        client.post("/api/auth/ensure", headers=headers)

    assert len(clerk.calls) == 1
