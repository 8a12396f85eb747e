"""A batch that nobody is locked for: what comes in between makes it start again, with care."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from dev.databases import app_on, connect_to, count, locking
from dev.servers import eventually
from models import Mentorado, User
from models.mentorado import Turma
from sweep import batches
from sweep.batches import ContendedError
from sweep.progress import SweepCounts
from sweep.scheduler import build_sweeper
from tests.support.sweeps import closing_of, sweep_among_logins
from web.services import EXTENSION, Services

# What somebody else commits after the batch has read who is due, and before it looks again.
MEANWHILE = """
CREATE FUNCTION meanwhile() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN {change} RETURN NULL; END $$;
CREATE TRIGGER meanwhile AFTER INSERT ON mentorados FOR EACH ROW
    WHEN (NEW.user_id IS NOT NULL) EXECUTE FUNCTION meanwhile();
"""
BLOCKED = "UPDATE users SET blocked_at = now();"
EXPECTED = """INSERT INTO mentorados (nome_completo, email, turma)
    SELECT 'Eva', upper(email), 'neon' FROM users;"""
ABSENT = """
INSERT INTO users (clerk_id, email, email_verified)
SELECT 'user_' || i, i || '@example.com', true FROM generate_series(1, {people}) AS i
"""
PROFILES = "SELECT count(user_id) FROM mentorados"
CREATIONS = "SELECT count(*) FROM audit_events WHERE event = 'mentorado_created'"
EVERYBODY = (0, 2**31 - 1)


def add_people(session: Session, number: int) -> None:
    session.execute(text(ABSENT.format(people=number)))
    session.commit()


@pytest.mark.parametrize("few", [0, 1_000])
@pytest.mark.parametrize("change", [BLOCKED, EXPECTED])
def test_batch_under_which_something_changed_is_refused(
    session: Session, monkeypatch: pytest.MonkeyPatch, change: str, few: int
) -> None:
    monkeypatch.setattr(batches, "FEW", few)
    add_people(session, 2)
    session.execute(text(MEANWHILE.format(change=change)))

    with pytest.raises(ContendedError):
        batches.create_range(session, EVERYBODY)


@pytest.mark.parametrize("few", [0, 1_000])
def test_profile_that_waits_for_another_address_is_in_nobodys_way(
    session: Session, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(batches, "FEW", few)
    add_people(session, 2)
    session.add(Mentorado(nome_completo="Eva", email="eva@example.com", turma=Turma.NEON))
    session.commit()

    assert batches.create_range(session, EVERYBODY) == 2


def test_whoever_is_awaited_gets_no_other_profile_and_the_others_theirs(
    session: Session, services: Services
) -> None:
    add_people(session, 3)
    session.add(Mentorado(nome_completo="Eva", email="2@example.com", turma=Turma.NEON))
    session.commit()

    closing_of(build_sweeper(services.provisioning)).create_range(EVERYBODY)

    with_profile = select(User.clerk_id).join(Mentorado, Mentorado.user_id == User.id)
    assert sorted(session.scalars(with_profile)) == ["user_1", "user_3"]


@pytest.fixture
def url(copy_database: Callable[[str], str], tmp_path: Path) -> str:
    """A database of the test's own."""
    return copy_database(f"batch_{tmp_path.name}")


@pytest.fixture
def track(url: str, tmp_path: Path) -> Iterator[Flask]:
    """An app on that database."""
    with app_on(tmp_path, url) as app:
        yield app


def test_whoever_an_admin_holds_is_passed_over_and_holds_nobody_up(track: Flask, url: str) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(ABSENT.format(people=20))
    sweeper = build_sweeper(track.extensions[EXTENSION].provisioning)

    with locking(url, "SELECT id FROM users WHERE id = 7 FOR UPDATE"):
        first = sweeper.start("cli")

    assert (first.created, count(url, PROFILES), sweeper.start("cli").created) == (19, 19, 1)


def test_profile_made_by_a_login_that_is_not_over_yet_is_left_to_it(track: Flask, url: str) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(ABSENT.format(people=20))
    sweeper = build_sweeper(track.extensions[EXTENSION].provisioning)
    login = "INSERT INTO mentorados (user_id, nome_completo, turma) VALUES (7, 'Eva', 'neon')"

    def sweep(_: object) -> SweepCounts:
        with track.app_context():
            return sweeper.start("cli")

    with locking(url, login) as other, ThreadPoolExecutor(1) as pool:
        swept = pool.submit(sweep, None)
        assert eventually_waits(url)
        other.commit()
        counts = swept.result(timeout=10)

    assert (counts.created, count(url, PROFILES)) == (19, 20)


def eventually_waits(url: str) -> bool:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    return eventually(lambda: count(url, f"{waiting} AND wait_event_type = 'Lock'") == 1)


def test_logins_and_a_sweep_of_the_same_people_make_one_profile_each(
    track: Flask, url: str
) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(ABSENT.format(people=40))

    sweep_among_logins(track, 40, doors=4)

    assert (count(url, PROFILES), count(url, CREATIONS)) == (40, 40)
