"""Later changes at Clerk become effective without a webhook and with default tokens."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from benchmarks.databases import connect_to, count
from benchmarks.servers import eventually
from dev.fake_clerk import DevUser
from provisioning.identity_lookups import LOOKUP_SECONDS
from sweep.sweeper import Sweeper
from tests.support.apps import create_app_on
from tests.support.clerk_server import BackendFault, Clerk, run_clerk
from tests.support.stopwatch import stopwatch
from web.services import EXTENSION

EVA = DevUser("user_eva", "Eva Melo", "eva@example.com")
UNVERIFIED = replace(EVA, email_verified=False)
WITHOUT_ADDRESS = replace(EVA, email=None)
DONA = DevUser("user_dona", "Dona Admin", "dona@example.com")
PREREGISTRATION = """
INSERT INTO mentorados (nome_completo, email, turma, meta_leads)
VALUES ('Eva Pré', 'eva@example.com', 'neon', 77)
"""
PROFILES = "SELECT count(*) FROM mentorados WHERE user_id IS NOT NULL"
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
ME, ADMIN = "/api/mentorados/me", "/api/admin/users"
DOWN = BackendFault("500 Internal Server Error")


class ShiftedTime:
    """The current time plus an offset that the test increases."""

    offset = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset


@pytest.fixture
def clerk(tmp_path: Path) -> Iterator[Clerk]:
    with run_clerk(tmp_path / "clerk") as clerk:
        yield clerk


@pytest.fixture
def shifted_time() -> ShiftedTime:
    return ShiftedTime()


@pytest.fixture
def app(tmp_path: Path, url: str, clerk: Clerk, shifted_time: ShiftedTime) -> Iterator[Flask]:
    yield from _app(tmp_path / "one", url, clerk, shifted_time)


@pytest.fixture
def other_app(tmp_path: Path, url: str, clerk: Clerk, shifted_time: ShiftedTime) -> Iterator[Flask]:
    """Another process on the same database, with its own cache."""
    yield from _app(tmp_path / "two", url, clerk, shifted_time)


def _app(folder: Path, url: str, clerk: Clerk, shifted_time: ShiftedTime) -> Iterator[Flask]:
    settings: dict[str, Any] = {name.lower(): value for name, value in clerk.settings.items()}
    with create_app_on(folder, url, admin_emails=DONA.email, **settings) as app:
        app.extensions[EXTENSION] = replace(app.extensions[EXTENSION], now=shifted_time)
        yield app
        assert eventually(lambda: app.extensions[EXTENSION].refresh.is_idle)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def request_as(client: FlaskClient, clerk: Clerk, user: DevUser, path: str = ME) -> TestResponse:
    claims = {"sub": user.clerk_id, "sid": "sess_1"}
    headers = {"Authorization": f"Bearer {clerk.provider.sign(claims, 60)}"}
    return client.get(path, headers=headers)


def leads(response: TestResponse) -> int:
    assert response.json is not None
    return int(response.json["meta_leads"])


@pytest.mark.parametrize("before", [UNVERIFIED, WITHOUT_ADDRESS], ids=["unverified", "absent"])
def test_address_verified_later_links_the_profile_after_a_minute(
    client: FlaskClient, clerk: Clerk, url: str, shifted_time: ShiftedTime, before: DevUser
) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(PREREGISTRATION)
    clerk.provider.save_user(before)
    first = leads(request_as(client, clerk, EVA))

    clerk.provider.save_user(EVA)
    before_a_minute = leads(request_as(client, clerk, EVA))
    shifted_time.offset += MINUTE
    after_a_minute = leads(request_as(client, clerk, EVA))

    assert (first, before_a_minute, after_a_minute, count(url, PROFILES)) == (50, 50, 77, 1)


@pytest.mark.parametrize(
    "after",
    [replace(DONA, email=None), replace(DONA, email_verified=False)],
    ids=["absent", "unverified"],
)
def test_admin_without_the_listed_address_loses_the_role_after_a_day(
    client: FlaskClient, clerk: Clerk, shifted_time: ShiftedTime, after: DevUser
) -> None:
    clerk.provider.save_user(DONA)
    before = request_as(client, clerk, DONA, ADMIN).status_code

    clerk.provider.save_user(after)
    shifted_time.offset += DAY
    request_as(client, clerk, DONA, ADMIN)

    assert before == 200
    assert eventually(lambda: request_as(client, clerk, DONA, ADMIN).status_code == 403)


def test_user_with_a_listed_address_becomes_admin_after_a_day(
    client: FlaskClient, clerk: Clerk, shifted_time: ShiftedTime
) -> None:
    clerk.provider.save_user(replace(DONA, email="other@example.com"))
    before = request_as(client, clerk, DONA, ADMIN).status_code

    clerk.provider.save_user(DONA)
    shifted_time.offset += DAY
    request_as(client, clerk, DONA, ADMIN)

    assert before == 403
    assert eventually(lambda: request_as(client, clerk, DONA, ADMIN).status_code == 200)


def test_verified_user_causes_one_call_a_day(
    client: FlaskClient, clerk: Clerk, shifted_time: ShiftedTime
) -> None:
    clerk.provider.save_user(EVA)

    refresh, calls = client.application.extensions[EXTENSION].refresh, []
    for _ in range(3):
        for _ in range(100):
            assert request_as(client, clerk, EVA).status_code == 200
        assert eventually(lambda: refresh.is_idle)
        calls.append(len(clerk.calls))
        shifted_time.offset += DAY

    assert calls == [1, 2, 3]


def test_unverified_user_causes_one_call_a_minute(
    client: FlaskClient, clerk: Clerk, shifted_time: ShiftedTime
) -> None:
    clerk.provider.save_user(UNVERIFIED)

    for _ in range(3):
        for _ in range(100):
            assert request_as(client, clerk, EVA).status_code == 200
        shifted_time.offset += MINUTE

    assert len(clerk.calls) == 3


@pytest.mark.parametrize(
    ("user", "pause"), [(UNVERIFIED, MINUTE), (EVA, DAY)], ids=["unverified", "verified"]
)
def test_two_processes_cause_one_call(
    app: Flask,
    other_app: Flask,
    clerk: Clerk,
    shifted_time: ShiftedTime,
    user: DevUser,
    pause: timedelta,
) -> None:
    clerk.provider.save_user(user)
    clients = [app.test_client(), other_app.test_client()]
    for client in clients:
        request_as(client, clerk, EVA)
    before = len(clerk.calls)

    shifted_time.offset += pause
    for _ in range(20):
        for client in clients:
            request_as(client, clerk, EVA)

    assert eventually(
        lambda: all(
            application.extensions[EXTENSION].refresh.is_idle for application in (app, other_app)
        )
    )
    assert [request_as(client, clerk, EVA).status_code for client in clients] == [200, 200]
    assert len(clerk.calls) == before + 1


def test_failed_lookup_is_not_repeated_by_each_request(
    client: FlaskClient, clerk: Clerk, shifted_time: ShiftedTime
) -> None:
    clerk.provider.save_user(UNVERIFIED)
    request_as(client, clerk, EVA)
    clerk.fault = DOWN
    shifted_time.offset += MINUTE

    statuses = {request_as(client, clerk, EVA).status_code for _ in range(20)}

    assert (statuses, len(clerk.calls)) == ({200}, 2)


def test_failed_lookup_is_repeated_by_the_sweep(
    client: FlaskClient, clerk: Clerk, url: str, shifted_time: ShiftedTime
) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(PREREGISTRATION)
    clerk.provider.save_user(UNVERIFIED)
    request_as(client, clerk, EVA)
    clerk.provider.save_user(EVA)
    clerk.fault = DOWN
    shifted_time.offset += MINUTE
    during = leads(request_as(client, clerk, EVA))

    clerk.fault = None
    Sweeper(client.application.extensions[EXTENSION].provisioning).start("clock")

    assert (during, leads(request_as(client, clerk, EVA)), count(url, PROFILES)) == (50, 77, 1)


def test_failed_background_lookup_is_repeated_after_a_pause(
    client: FlaskClient, clerk: Clerk, shifted_time: ShiftedTime
) -> None:
    clerk.provider.save_user(EVA)
    request_as(client, clerk, EVA)
    clerk.fault = DOWN
    shifted_time.offset += DAY

    for _ in range(20):
        assert request_as(client, clerk, EVA).status_code == 200
    refresh = client.application.extensions[EXTENSION].refresh
    assert eventually(lambda: refresh.is_idle)
    request_as(client, clerk, EVA)
    assert len(clerk.calls) == 2

    clerk.fault = None
    shifted_time.offset += 5 * MINUTE
    request_as(client, clerk, EVA)
    assert eventually(lambda: len(clerk.calls) == 3)


def test_failed_lookup_of_a_new_user_is_repeated_after_a_minute(
    client: FlaskClient, clerk: Clerk, shifted_time: ShiftedTime
) -> None:
    clerk.provider.save_user(EVA)
    clerk.fault = DOWN
    for _ in range(20):
        request_as(client, clerk, EVA)
    first = len(clerk.calls)

    clerk.fault = None
    shifted_time.offset += MINUTE
    directory = client.application.extensions[EXTENSION].provisioning.directory
    directory.look_up("user_x", is_background=True)  # as the sweep closes the circuit breaker
    response = request_as(client, clerk, EVA)

    assert (first, (response.json or {})["nome_completo"]) == (1, EVA.name)


def test_request_does_not_wait_for_a_background_lookup(
    client: FlaskClient, clerk: Clerk, shifted_time: ShiftedTime
) -> None:
    clerk.provider.save_user(EVA)
    request_as(client, clerk, EVA)
    may_answer = Event()
    clerk.fault = BackendFault(blocked_until=may_answer)
    shifted_time.offset += DAY

    with stopwatch() as watch:
        response = request_as(client, clerk, EVA)

    may_answer.set()
    assert (response.status_code, watch.seconds < LOOKUP_SECONDS) == (200, True)
    assert eventually(lambda: len(clerk.calls) == 2)


def test_token_with_all_claims_needs_no_call(
    client: FlaskClient, clerk: Clerk, shifted_time: ShiftedTime
) -> None:
    clerk.provider.save_user(UNVERIFIED)

    for _ in range(3):
        headers = {"Authorization": f"Bearer {clerk.provider.token(UNVERIFIED)}"}
        assert client.get(ME, headers=headers).status_code == 200
        shifted_time.offset += DAY

    assert clerk.calls == []


def test_blocked_user_causes_no_further_call(
    client: FlaskClient, clerk: Clerk, url: str, shifted_time: ShiftedTime
) -> None:
    clerk.provider.save_user(UNVERIFIED)
    request_as(client, clerk, EVA)
    with connect_to(url) as connection:
        connection.exec_driver_sql("UPDATE users SET blocked_at = now()")

    for _ in range(3):
        shifted_time.offset += DAY
        assert request_as(client, clerk, EVA).status_code == 403

    assert len(clerk.calls) == 1


def test_explicit_ensure_causes_no_additional_calls(
    client: FlaskClient, clerk: Clerk, shifted_time: ShiftedTime
) -> None:
    clerk.provider.save_user(UNVERIFIED)
    headers = {"Authorization": f"Bearer {clerk.provider.sign({'sub': 'user_eva'}, 60)}"}

    for _ in range(20):
        client.post("/api/auth/ensure", headers=headers)

    assert len(clerk.calls) == 1
