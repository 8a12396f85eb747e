"""Batches without row locks: a concurrent change makes the batch restart with locks."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from benchmarks.databases import connect_to, count, hold_locks
from models import Mentorado, User
from models.people import Turma
from sweep import batches
from sweep.batches import FEW, ContendedError
from sweep.executor import SweepCounts
from sweep.sweeper import Sweeper
from tests.support.apps import create_app_on
from tests.support.databases import is_blocked_eventually
from tests.support.sweeps import executor_of, sweep_during_logins
from web.services import EXTENSION, Services

# A change that takes effect after the batch has read its users and before its second query.
MEANWHILE = """
CREATE FUNCTION meanwhile() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN {change} RETURN NULL; END $$;
CREATE TRIGGER meanwhile AFTER INSERT ON mentorados FOR EACH ROW
    WHEN (NEW.user_id IS NOT NULL) EXECUTE FUNCTION meanwhile();
"""
BLOCK = "UPDATE users SET blocked_at = now();"
PRE_REGISTER = """INSERT INTO mentorados (nome_completo, email, turma)
    SELECT 'Eva', upper(email), 'neon' FROM users;"""
ADD_USERS = """
INSERT INTO users (clerk_id, email, email_verified)
SELECT 'user_' || i, i || '@example.com', true FROM generate_series(1, {number}) AS i
"""
ADD_UNLINKED_PROFILES = """
INSERT INTO mentorados (nome_completo, email, turma)
SELECT 'Eva', 'unlinked_' || i || '@example.com', 'neon' FROM generate_series(1, {number}) AS i
"""
COUNT_PROFILES = "SELECT count(user_id) FROM mentorados"
COUNT_CREATIONS = "SELECT count(*) FROM audit_events WHERE event = 'mentorado_created'"
ALL_IDS = (0, 2**31 - 1)


def add_users(session: Session, number: int) -> None:
    session.execute(text(ADD_USERS.format(number=number)))
    session.commit()


def add_unlinked_profiles(session: Session, number: int) -> None:
    """Pre-register addresses that no user has."""
    session.execute(text(ADD_UNLINKED_PROFILES.format(number=number)))
    session.commit()


@pytest.mark.parametrize("unlinked", [0, FEW + 1])
@pytest.mark.parametrize("change", [BLOCK, PRE_REGISTER])
def test_batch_with_a_concurrent_change_raises_contended_error(
    session: Session, change: str, unlinked: int
) -> None:
    add_users(session, 2)
    add_unlinked_profiles(session, unlinked)
    session.execute(text(MEANWHILE.format(change=change)))

    with pytest.raises(ContendedError):
        batches.create_range(session, ALL_IDS)


@pytest.mark.parametrize("unlinked", [1, FEW + 1])
def test_pre_registered_profiles_of_other_addresses_do_not_contend(
    session: Session, unlinked: int
) -> None:
    add_users(session, 2)
    add_unlinked_profiles(session, unlinked)

    assert batches.create_range(session, ALL_IDS) == 2


def test_range_skips_users_with_a_pre_registered_profile(
    session: Session, services: Services
) -> None:
    add_users(session, 3)
    session.add(Mentorado(nome_completo="Eva", email="2@example.com", turma=Turma.NEON))
    session.commit()

    executor_of(Sweeper(services.provisioning)).create_range(ALL_IDS)

    with_profile = select(User.clerk_id).join(Mentorado, Mentorado.user_id == User.id)
    assert sorted(session.scalars(with_profile)) == ["user_1", "user_3"]


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    """An app on that database."""
    with create_app_on(tmp_path, url) as app:
        yield app


@pytest.mark.real_time_limits
def test_user_locked_by_an_admin_is_skipped_without_blocking_the_others(
    app: Flask, url: str
) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(ADD_USERS.format(number=20))
    sweeper = Sweeper(app.extensions[EXTENSION].provisioning)

    with hold_locks(url, "SELECT id FROM users WHERE id = 7 FOR UPDATE"):
        first = sweeper.start("cli")

    assert (first.created, count(url, COUNT_PROFILES), sweeper.start("cli").created) == (19, 19, 1)


def test_profile_of_an_uncommitted_login_is_not_duplicated(app: Flask, url: str) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(ADD_USERS.format(number=20))
    sweeper = Sweeper(app.extensions[EXTENSION].provisioning)
    login = "INSERT INTO mentorados (user_id, nome_completo, turma) VALUES (7, 'Eva', 'neon')"

    def sweep(_: object) -> SweepCounts:
        with app.app_context():
            return sweeper.start("cli")

    with hold_locks(url, login) as login_transaction, ThreadPoolExecutor(1) as pool:
        pending = pool.submit(sweep, None)
        assert is_blocked_eventually(url)
        login_transaction.commit()
        counts = pending.result(timeout=10)

    assert (counts.created, count(url, COUNT_PROFILES)) == (19, 20)


def test_sweep_during_logins_of_the_same_users_creates_one_profile_each(
    app: Flask, url: str
) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(ADD_USERS.format(number=40))

    sweep_during_logins(app, 40, threads=4)

    assert (count(url, COUNT_PROFILES), count(url, COUNT_CREATIONS)) == (40, 40)
