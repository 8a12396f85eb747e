"""Reported months: concurrent saves of different fields are all kept, and ownership is checked."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import pytest
from flask import Flask
from sqlalchemy import select
from sqlalchemy.exc import NoResultFound
from sqlalchemy.orm import Session

from benchmarks.databases import connect_to, count, hold_locks
from core.database import transaction
from dashboard.months import OwnProfile, read_report, reported_months, save_month
from dashboard.periods import Period
from models import Mentorado, MetricaMensal
from models.people import FIGURES
from tests.support.apps import create_app_on
from tests.support.databases import is_blocked_eventually
from tests.support.users import BOB, NOW, PAGE, identity_of
from web.services import EXTENSION

MARCH = Period(2026, 3)


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    """An app on that database with one connection for each field."""
    with create_app_on(tmp_path, url, web_threads=len(FIGURES)) as app:
        yield app


@pytest.fixture
def bobs_profile(app: Flask) -> OwnProfile:
    """Bob's profile."""
    ensured = app.extensions[EXTENSION].provisioning.ensure(identity_of(BOB), source=PAGE, now=NOW)
    assert ensured.mentorado is not None
    return OwnProfile(ensured.mentorado.id, ensured.user.id)


def test_concurrent_saves_of_different_fields_are_all_kept(
    app: Flask, bobs_profile: OwnProfile
) -> None:
    start = Barrier(len(FIGURES))

    def save(field: str) -> None:
        with app.app_context():
            start.wait(timeout=10)
            with transaction() as session:
                save_month(session, bobs_profile, MARCH, {field: 7}, now=NOW)

    with ThreadPoolExecutor(len(FIGURES)) as pool:
        list(pool.map(save, FIGURES))

    with transaction() as session:
        [month] = reported_months(session, bobs_profile, MARCH)
    assert [getattr(month, field) for field in FIGURES] == [7] * len(FIGURES)


def test_second_save_returns_the_new_values(session: Session, alice: Mentorado) -> None:
    later, owned = NOW + timedelta(hours=1), own_profile(alice)
    save_month(session, owned, MARCH, {"lucro": 1}, now=NOW)
    loaded = session.scalars(select(MetricaMensal)).one()  # this object may be stale

    saved = save_month(session, owned, MARCH, {"lucro": 2}, now=later)

    assert (saved.lucro, saved.updated_at, loaded.lucro) == (2, later, 2)


def test_list_of_months_is_limited(session: Session, alice: Mentorado) -> None:
    owned = own_profile(alice)
    for mes in (1, 2, 3):
        save_month(session, owned, Period(2026, mes), {"lucro": 1}, now=NOW)

    listed = reported_months(session, owned, limit=2)

    assert [month.mes for month in listed] == [3, 2]


def test_month_of_a_profile_with_another_owner_is_refused(
    session: Session, alice: Mentorado
) -> None:
    owned = OwnProfile(alice.id, own_profile(alice).user_id + 1)

    for read_or_write in (
        lambda: save_month(session, owned, MARCH, {"lucro": 1}, now=NOW),
        lambda: reported_months(session, owned, MARCH),
        lambda: reported_months(session, owned, limit=9),
        lambda: read_report(session, owned.id, owner_id=owned.user_id),
    ):
        with pytest.raises(NoResultFound):
            read_or_write()

    assert session.scalars(select(MetricaMensal)).all() == []


@pytest.mark.parametrize(
    "change",
    ["UPDATE mentorados SET user_id = NULL", "DELETE FROM mentorados"],
    ids=["unlink", "deletion"],
)
def test_month_waits_for_a_change_of_the_profile_and_is_refused(
    app: Flask, bobs_profile: OwnProfile, url: str, change: str
) -> None:
    def save() -> None:
        with app.app_context(), transaction() as session:
            save_month(session, bobs_profile, MARCH, {"lucro": 1}, now=NOW)

    with ThreadPoolExecutor(1) as pool, connect_to(url) as connection:
        with connection.execution_options(isolation_level="READ COMMITTED").begin():
            connection.exec_driver_sql(change)
            saved = pool.submit(save)
            assert is_blocked_eventually(url)
        with pytest.raises(NoResultFound):
            saved.result(timeout=10)


def test_month_of_an_unknown_profile_is_refused(session: Session) -> None:
    with pytest.raises(NoResultFound):
        save_month(session, OwnProfile(2_147_483_647, 1), MARCH, {"lucro": 1}, now=NOW)


def test_deletion_waits_for_a_month_being_saved(
    app: Flask, bobs_profile: OwnProfile, url: str
) -> None:
    def delete() -> None:
        with connect_to(url) as connection:
            connection.exec_driver_sql("DELETE FROM mentorados")

    with ThreadPoolExecutor(1) as pool:
        with transaction() as session:
            save_month(session, bobs_profile, MARCH, {"lucro": 1}, now=NOW)
            deleted = pool.submit(delete)
            assert is_blocked_eventually(url)
        deleted.result(timeout=10)

    assert count(url, "SELECT count(*) FROM metricas_mensais") == 0


def test_month_does_not_wait_for_an_edit_of_the_profile(
    app: Flask, bobs_profile: OwnProfile, url: str
) -> None:
    def save() -> MetricaMensal:
        with app.app_context(), transaction() as session:
            return save_month(session, bobs_profile, MARCH, {"lucro": 7}, now=NOW)

    edit = "UPDATE mentorados SET nome_completo = 'Bob'"
    with ThreadPoolExecutor(1) as pool, hold_locks(url, edit):
        saved = pool.submit(save).result(timeout=5)

    assert saved.lucro == 7


def own_profile(profile: Mentorado) -> OwnProfile:
    """The profile together with its owner."""
    assert profile.user_id is not None
    return OwnProfile(profile.id, profile.user_id)
