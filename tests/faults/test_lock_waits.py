"""Locks between registrations, logins and the set-based step of the sweep."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask import Flask

from benchmarks.databases import connect_to, count, hold_locks
from benchmarks.servers import eventually
from core.database import transaction
from dev.fake_clerk import DevUser
from provisioning.audit import Source
from provisioning.ensure import Outcome
from provisioning.preregistration import pre_register
from provisioning.profiles import ADDRESS_LOCKS
from sweep import batches
from tests.support.apps import create_app_on
from tests.support.clients import queue_length
from tests.support.users import NOW, PAGE, identity_of
from web.services import EXTENSION, Services

EVA = {"nome_completo": "Eva Melo", "email": "eva@example.com"}
ADD_USERS = """
INSERT INTO users (clerk_id, email, email_verified)
VALUES ('eva', 'eva@example.com', true), ('dora', 'dora@example.com', false)
"""
# The lock of a login of Eva, and the lock of a profile that the sweep inserts for her.
ADDRESS_LOCK = f"SELECT pg_advisory_xact_lock({ADDRESS_LOCKS}, hashtext('eva@example.com'))"
KEY_SHARE_LOCK = "SELECT 1 FROM users WHERE clerk_id = 'eva' FOR KEY SHARE"
ALL_IDS = (0, 1_000)
DORA = DevUser("dora", "Dora Luz", "dora@example.com")
PRE_REGISTER_DORA = """
INSERT INTO mentorados (nome_completo, email, turma) VALUES ('Dora Luz', 'dora@example.com', 'neon')
"""
SWEEP_DORA = """
INSERT INTO mentorados (user_id, nome_completo, email, turma, created_automatically)
SELECT id, 'Dora', email, 'neon', true FROM users WHERE clerk_id = 'dora'
"""


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    """An app on a database with two users."""
    with connect_to(url) as connection:
        connection.exec_driver_sql(ADD_USERS)
    with create_app_on(tmp_path, url) as app:
        yield app


def register(app: Flask) -> None:
    with app.app_context(), transaction() as session:
        pre_register(session, EVA, source=Source("admin"), now=NOW)


@pytest.mark.parametrize("held", [ADDRESS_LOCK, KEY_SHARE_LOCK])
def test_registration_waits_for_a_login_or_sweep_of_the_same_user(
    app: Flask, url: str, held: str
) -> None:
    with ThreadPoolExecutor(1) as pool, hold_locks(url, held) as holder:
        registering = pool.submit(register, app)
        assert eventually(lambda: queue_length(url) == 1)
        holder.rollback()
        registering.result()

    assert count(url, "SELECT count(*) FROM mentorados") == 1


@pytest.mark.usefixtures("app")
def test_sweep_skips_a_user_locked_by_an_admin(url: str) -> None:
    held = "SELECT 1 FROM users WHERE clerk_id = 'eva' FOR UPDATE"
    with hold_locks(url, held), transaction() as session:
        created = batches.create_range_with_locks(session, ALL_IDS)

    assert (created, count(url, "SELECT count(*) FROM mentorados")) == ((1, 1), 1)


@pytest.mark.usefixtures("app")
def test_sweep_does_not_wait_for_a_login(url: str) -> None:
    held = "UPDATE users SET name = 'Eva' WHERE clerk_id = 'eva'"
    with hold_locks(url, held), transaction() as session:
        created = batches.create_range_with_locks(session, ALL_IDS)

    assert created == (2, 2)


def test_set_based_step_skips_a_user_with_a_pre_registered_profile(app: Flask, url: str) -> None:
    register(app)

    with transaction() as session:
        created = batches.create_range_with_locks(session, ALL_IDS)

    assert (created, count(url, "SELECT count(user_id) FROM mentorados")) == ((1, 1), 1)


def test_profile_created_by_a_concurrent_sweep_is_replaced_by_the_pre_registered_one(
    app: Flask, url: str
) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(PRE_REGISTER_DORA)

    def sign_in() -> Outcome:
        with app.app_context():
            services: Services = app.extensions[EXTENSION]
            return services.provisioning.ensure(identity_of(DORA), source=PAGE, now=NOW).outcome

    with hold_locks(url, SWEEP_DORA) as sweep, ThreadPoolExecutor(1) as pool:
        signing_in = pool.submit(sign_in)
        assert eventually(lambda: queue_length(url) == 1)
        sweep.commit()

        assert signing_in.result() is Outcome.CLAIMED

    assert count(url, "SELECT count(*) FROM mentorados") == 1
