"""Groups of users with pre-registered profiles are linked in one statement, by the same rules."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import select, text
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from benchmarks.databases import connect_to, count, hold_locks
from models import AuditEvent, Mentorado, ProvisioningAttempt, User
from models.people import Role, Turma
from provisioning.profiles import ADDRESS_LOCKS
from provisioning.rules import Rules
from sweep.batches import link_group
from sweep.sweeper import Sweeper
from tests.support.apps import create_app_on
from tests.support.sweeps import executor_of, sweep_during_logins
from tests.support.users import NOW
from web.services import EXTENSION, Services

PRE_REGISTERED_USERS = """
INSERT INTO users (clerk_id, email, email_verified)
SELECT 'user_' || i, i || '@example.com', true FROM generate_series(1, {number}) AS i;
INSERT INTO mentorados (nome_completo, email, turma)
SELECT clerk_id, upper(email), 'neon' FROM users ORDER BY id
"""
COUNT_CORRECT_LINKS = """
SELECT count(*) FROM mentorados m JOIN users u ON u.id = m.user_id
  JOIN audit_events e ON e.user_id = u.id AND e.mentorado_id = m.id AND e.event = 'mentorado_linked'
 WHERE m.nome_completo = u.clerk_id
"""
POISON = """
CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'poisoned' USING ERRCODE = '23514'; END $$;
CREATE TRIGGER poison BEFORE UPDATE ON mentorados FOR EACH ROW
    WHEN (NEW.user_id = {id}) EXECUTE FUNCTION poison();
"""
EVA = {"clerk_id": "eva", "email": "eva@example.com", "email_verified": True}
LISTED = Rules(admin_emails=frozenset(["eva@example.com"]))


def pre_register(session: Session, *addresses: str) -> None:
    for address in addresses:
        session.add(Mentorado(nome_completo="Eva", email=address, turma=Turma.NEON))
    session.commit()


def add_user(session: Session, **facts: object) -> User:
    user = User(**EVA | facts)
    session.add(user)
    session.commit()
    return user


def test_users_with_one_match_are_linked_together(session: Session) -> None:
    eva, bob = add_user(session), add_user(session, clerk_id="bob", email="bob@example.com")
    pre_register(session, " BOB@example.com", "Eva@Example.com")

    links = link_group(session, ["eva", "bob"], Rules())

    owners = select(Mentorado.user_id).order_by(Mentorado.id)
    assert {link.user_id for link in links} == {eva.id, bob.id}
    assert session.scalars(owners).all() == [bob.id, eva.id]


def test_each_link_writes_an_audit_event(session: Session) -> None:
    eva = add_user(session)
    pre_register(session, "eva@example.com")

    [link] = link_group(session, ["eva"], Rules())

    event = session.scalars(select(AuditEvent)).one()
    facts = (event.event, event.entry, event.user_id, event.mentorado_id)
    assert facts == ("mentorado_linked", "sweep", eva.id, link.mentorado_id)


@pytest.mark.parametrize(
    ("facts", "rules"),
    [
        ({"email_verified": False}, Rules()),
        ({"blocked_at": NOW}, Rules()),
        ({"deleted_at": NOW}, Rules()),
        ({"role": Role.ADMIN}, Rules()),
        ({"role": Role.ADMIN}, LISTED),
        ({}, LISTED),
        ({"role": Role.ADMIN, "admin_by_address": True}, Rules()),
    ],
)
def test_user_who_must_not_be_linked_is_skipped(
    session: Session, facts: dict[str, object], rules: Rules
) -> None:
    add_user(session, **facts)
    pre_register(session, "eva@example.com")

    assert link_group(session, ["eva"], rules) == []


@pytest.mark.parametrize("addresses", [[], ["eva@example.com", "EVA@example.com"]])
def test_user_with_no_or_several_matches_is_skipped(session: Session, addresses: list[str]) -> None:
    add_user(session)
    pre_register(session, *addresses)

    assert link_group(session, ["eva"], Rules()) == []


def test_user_with_a_profile_is_skipped(session: Session) -> None:
    eva = add_user(session)
    session.add(Mentorado(user_id=eva.id, nome_completo="Eva", turma=Turma.NEON))
    pre_register(session, "eva@example.com")

    assert link_group(session, ["eva"], Rules()) == []


def test_first_of_two_users_with_one_address_is_linked(session: Session) -> None:
    _, eve = add_user(session), add_user(session, clerk_id="eve")
    pre_register(session, "eva@example.com")

    links = link_group(session, ["eve", "eva"], Rules())

    assert [link.user_id for link in links] == [eve.id]


def test_sweep_logs_each_link(session: Session, services: Services) -> None:
    eva = add_user(session)
    pre_register(session, "eva@example.com")

    with capture_logs() as logs:
        Sweeper(services.provisioning).start("cli")

    [line] = [line for line in logs if line["event"] == "mentorado_linked"]
    assert (line["user_id"], line["entry"], "duration_ms" in line) == (eva.id, "sweep", True)


def test_failing_user_is_isolated_and_the_others_are_linked(
    session: Session, services: Services
) -> None:
    session.execute(text(PRE_REGISTERED_USERS.format(number=9)))
    third = session.scalars(select(User.id).where(User.clerk_id == "user_3")).one()
    session.execute(text(POISON.format(id=third)))
    session.commit()

    counts = Sweeper(services.provisioning).start("clock")

    assert (counts.linked, counts.failed, counts.scanned) == (8, 1, 9)
    assert session.scalars(select(ProvisioningAttempt.clerk_id)).all() == ["user_3"]


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    """An app on that database."""
    with create_app_on(tmp_path, url) as app:
        yield app


USER_LOCK = "SELECT id FROM users WHERE clerk_id = 'user_3' FOR NO KEY UPDATE"
ADDRESS_LOCK = f"SELECT pg_advisory_xact_lock({ADDRESS_LOCKS}, hashtext('3@example.com'))"
PROFILE_LOCK = "SELECT id FROM mentorados WHERE nome_completo = 'user_3' FOR UPDATE"


@pytest.mark.parametrize("lock", [USER_LOCK, ADDRESS_LOCK, PROFILE_LOCK])
def test_group_skips_a_locked_user_without_waiting(app: Flask, url: str, lock: str) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(PRE_REGISTERED_USERS.format(number=8))
    sweeper = Sweeper(app.extensions[EXTENSION].provisioning)
    executor = executor_of(sweeper)

    with hold_locks(url, lock), capture_logs() as logs:
        executor.link_group([f"user_{number}" for number in range(1, 9)])

    splits = [line for line in logs if line["event"] == "sweep_group_split"]
    assert (executor.counts.linked, count(url, COUNT_CORRECT_LINKS), splits) == (7, 7, [])


def test_logins_during_a_sweep_of_the_same_users_link_each_profile_once(
    app: Flask, url: str
) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(PRE_REGISTERED_USERS.format(number=60))

    sweep_during_logins(app, 60, threads=3)

    assert (count(url, COUNT_CORRECT_LINKS), count(url, "SELECT count(*) FROM mentorados")) == (
        60,
        60,
    )
