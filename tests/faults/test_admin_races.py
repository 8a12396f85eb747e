"""Concurrent changes of an admin and a login, or of two admins, are applied one by one."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, event
from werkzeug.test import TestResponse

from benchmarks.databases import connect_to, count, hold_locks
from benchmarks.servers import eventually
from core.database import transaction
from dev.fake_clerk import DevUser
from provisioning.audit import Source
from provisioning.rules import Rules
from provisioning.service import ProvisioningService
from sweep import batches
from sweep.batches import link_group
from tests.support.apps import create_app_on
from tests.support.clients import ADMIN, queue_length
from tests.support.users import BOB, NOW, identity_of
from web.services import EXTENSION, Services

ANA, BIA = (
    DevUser(f"user_{name}", name.title(), f"{name}@example.com", email_verified=True)
    for name in ("ana", "bia")
)
PROFILE = "INSERT INTO mentorados (id, nome_completo, email, turma) VALUES (7, 'Ana', :a, 'neon')"
PROFILE_LOCK = "SELECT 1 FROM mentorados WHERE id = 7 FOR UPDATE"
ORDERS = pytest.mark.parametrize("login_first", [True, False], ids=["login first", "admin first"])


class ConcurrentRequests:
    """An app and the requests that a test sends to it."""

    def __init__(self, app: Flask, url: str) -> None:
        self.app, self.url = app, url
        self.services: Services = app.extensions[EXTENSION]

    def send(self, user: DevUser, method: str, path: str, body: object = None) -> TestResponse:
        assert self.services.dev_provider is not None
        headers = {"Authorization": f"Bearer {self.services.dev_provider.token(user)}"}
        client: FlaskClient = self.app.test_client()
        return client.open(path, method=method, json=body, headers=headers)

    def admin(self, method: str, path: str, body: object = None) -> TestResponse:
        return self.send(ADMIN, method, f"/api/admin/{path}", body)

    def sign_in(self) -> TestResponse:
        return self.send(ANA, "POST", "/api/auth/ensure")

    def race(
        self, change: Callable[[], TestResponse], *, login_first: bool
    ) -> tuple[TestResponse, TestResponse]:
        """Make both wait for the profile's lock in this order; return the login's answer first."""
        steps = [self.sign_in, change] if login_first else [change, self.sign_in]
        with ThreadPoolExecutor(2) as pool, hold_locks(self.url, PROFILE_LOCK) as lock:
            first = pool.submit(steps[0])
            assert eventually(lambda: queue_length(self.url) == 1)
            second = pool.submit(steps[1])
            assert eventually(lambda: queue_length(self.url) == 2)
            lock.rollback()
            done = first.result(), second.result()
        return done if login_first else (done[1], done[0])

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with connect_to(self.url) as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]


@pytest.fixture
def requests(url: str, tmp_path: Path) -> Iterator[ConcurrentRequests]:
    """An app with real commits, an admin, Bia, and a pre-registered profile for Ana."""
    with create_app_on(tmp_path, url) as app:
        requests = ConcurrentRequests(app, url)
        for user in (ADMIN, BIA):
            assert requests.send(user, "GET", "/api/auth/me").status_code == 200
        with connect_to(url) as connection:
            connection.exec_driver_sql(PROFILE.replace(":a", f"'{ANA.email}'"))
        yield requests


@ORDERS
def test_address_changed_during_a_login_links_only_a_verified_one(
    requests: ConcurrentRequests, *, login_first: bool
) -> None:
    change = {"email": "carla@example.com"}
    login, changed = requests.race(
        lambda: requests.admin("PATCH", "mentorados/7", change), login_first=login_first
    )

    [(owner, email)] = requests.rows("SELECT user_id, email FROM mentorados WHERE id = 7")
    [edit] = requests.rows("SELECT user_id FROM audit_events WHERE details->>'action' = 'edit'")
    assert (login.status_code in (200, 201), changed.status_code) == (True, 200)
    assert email == "carla@example.com"
    assert edit == (owner,), "the audit event names the owner at the time of the edit"
    assert (owner is not None) is login_first


@ORDERS
def test_profile_deleted_during_a_login_blocks_its_owner(
    requests: ConcurrentRequests, *, login_first: bool
) -> None:
    requests.race(lambda: requests.admin("DELETE", "mentorados/7"), login_first=login_first)

    status = requests.send(ANA, "GET", "/api/auth/me").get_json()["status"]
    assert status == ("user_blocked" if login_first else "ready")


@ORDERS
def test_profile_deactivated_during_a_login_is_refused_at_the_next_request(
    requests: ConcurrentRequests, *, login_first: bool
) -> None:
    change = {"ativo": "nao"}
    requests.race(lambda: requests.admin("PATCH", "mentorados/7", change), login_first=login_first)

    me = requests.send(ANA, "GET", "/api/auth/me").get_json()
    assert me["status"] == "mentorado_inactive"


@ORDERS
def test_merge_during_a_login_keeps_the_owner(
    requests: ConcurrentRequests, *, login_first: bool
) -> None:
    into = requests.admin("POST", "mentorados", {"nome_completo": "Ana Luz"}).get_json()["id"]

    _, merged = requests.race(
        lambda: requests.admin("POST", "mentorados/7/merge", {"into": into}),
        login_first=login_first,
    )

    me = requests.send(ANA, "GET", "/api/auth/me").get_json()
    assert (merged.status_code, me["mentorado"]["id"]) == (200, into)


def test_two_admins_who_swap_two_addresses_get_conflicts(requests: ConcurrentRequests) -> None:
    other = requests.admin("POST", "mentorados", {"nome_completo": "C", "email": "c@example.com"})
    other_id = other.get_json()["id"]
    start = Barrier(2)

    def swap(mentorado_id: int, address: str) -> int:
        start.wait()
        return requests.admin("PATCH", f"mentorados/{mentorado_id}", {"email": address}).status_code

    with ThreadPoolExecutor(2) as pool:
        statuses = [
            set(pool.map(swap, (7, other_id), ("c@example.com", str(ANA.email)))) for _ in range(8)
        ]

    assert statuses == [{409}] * 8


@pytest.fixture
def commit_before_update(requests: ConcurrentRequests) -> Iterator[list[str]]:
    """A list; a statement in it is committed by another connection before the next UPDATE."""
    pending: list[str] = []

    def commit_pending(_c: object, _k: object, statement: str, *_: object) -> None:
        if "UPDATE mentorados" in statement and pending:
            with connect_to(requests.url) as connection:
                connection.exec_driver_sql(pending.pop())

    event.listen(Engine, "before_cursor_execute", commit_pending)
    yield pending
    event.remove(Engine, "before_cursor_execute", commit_pending)


CHANGE_ADDRESS = "UPDATE mentorados SET email = 'carla@example.com' WHERE id = 7"


def test_login_does_not_link_a_profile_whose_address_has_just_changed(
    requests: ConcurrentRequests, commit_before_update: list[str]
) -> None:
    commit_before_update.append(CHANGE_ADDRESS)

    answer = requests.sign_in().get_json()

    assert (answer["outcome"], answer["mentorado"]["id"] != 7) == ("created", True)
    assert requests.rows("SELECT user_id FROM mentorados WHERE id = 7") == [(None,)]


def test_sweep_does_not_link_a_profile_whose_address_has_just_changed(
    requests: ConcurrentRequests, commit_before_update: list[str]
) -> None:
    with connect_to(requests.url) as connection:
        connection.exec_driver_sql(
            "INSERT INTO users (clerk_id, email, email_verified)"
            " VALUES ('user_ana', 'ana@example.com', true)"
        )
    commit_before_update.append(CHANGE_ADDRESS)

    with requests.app.app_context(), transaction() as session:
        links = link_group(session, ["user_ana"], Rules())

    assert links == []
    assert requests.rows("SELECT user_id FROM mentorados WHERE id = 7") == [(None,)]


def test_account_deleted_during_a_sweep_batch_keeps_no_profile(
    requests: ConcurrentRequests,
) -> None:
    with connect_to(requests.url) as connection:
        connection.exec_driver_sql("INSERT INTO users (clerk_id) VALUES ('user_bob')")
    [(user_id,)] = requests.rows("SELECT id FROM users WHERE clerk_id = 'user_bob'")
    service: ProvisioningService = requests.services.provisioning

    def delete_account() -> bool:
        with requests.app.app_context():
            message = ("msg_1", "user.deleted")
            identity = replace(identity_of(BOB), clerk_id="user_bob")
            return service.handle_user_deleted(message, identity, source=Source("webhook"), now=NOW)

    with ThreadPoolExecutor(1) as pool, requests.app.app_context(), transaction() as session:
        assert batches.create_range(session, (user_id - 1, user_id)) == 1
        deletion = pool.submit(delete_account)
        assert eventually(lambda: queue_length(requests.url) == 1)
        session.commit()
        assert deletion.result()

    assert count(requests.url, f"SELECT count(*) FROM mentorados WHERE user_id = {user_id}") == 0
