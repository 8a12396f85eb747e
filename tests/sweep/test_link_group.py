"""Groups of people for whom a profile waits: linked at once, by the rules that hold for one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from dev.databases import app_on, connect_to, count, locking
from models import AuditEvent, Mentorado, ProvisioningAttempt, User
from models.mentorado import Turma
from models.user import Role
from provisioning.profiles import ADDRESS_LOCKS
from provisioning.rules import Rules
from sweep.batches import link_group
from sweep.scheduler import build_sweeper
from tests.support.sweeps import closing_of, sweep_among_logins
from tests.support.users import NOW
from web.services import EXTENSION, Services

CROWD = """
INSERT INTO users (clerk_id, email, email_verified)
SELECT 'user_' || i, i || '@example.com', true FROM generate_series(1, {people}) AS i;
INSERT INTO mentorados (nome_completo, email, turma)
SELECT clerk_id, upper(email), 'neon' FROM users ORDER BY id
"""
RIGHT = """
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


def expect(session: Session, *addresses: str) -> None:
    for address in addresses:
        session.add(Mentorado(nome_completo="Eva", email=address, turma=Turma.NEON))
    session.commit()


def add(session: Session, **facts: object) -> User:
    user = User(**EVA | facts)
    session.add(user)
    session.commit()
    return user


def test_plain_people_are_linked_in_one_go(session: Session) -> None:
    eva, bob = add(session), add(session, clerk_id="bob", email="bob@example.com")
    expect(session, " BOB@example.com", "Eva@Example.com")

    links = link_group(session, ["eva", "bob"], Rules())

    owners = select(Mentorado.user_id).order_by(Mentorado.id)
    assert {link.clerk_id for link in links} == {"eva", "bob"}
    assert session.scalars(owners).all() == [bob.id, eva.id]


def test_each_link_is_recorded(session: Session) -> None:
    eva = add(session)
    expect(session, "eva@example.com")

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
def test_whoever_is_not_to_be_linked_is_left(
    session: Session, facts: dict[str, object], rules: Rules
) -> None:
    add(session, **facts)
    expect(session, "eva@example.com")

    assert link_group(session, ["eva"], rules) == []


@pytest.mark.parametrize("addresses", [[], ["eva@example.com", "EVA@example.com"]])
def test_none_or_several_are_left_to_be_looked_at(session: Session, addresses: list[str]) -> None:
    add(session)
    expect(session, *addresses)

    assert link_group(session, ["eva"], Rules()) == []


def test_profile_of_their_own_is_left_to_be_looked_at(session: Session) -> None:
    eva = add(session)
    session.add(Mentorado(user_id=eva.id, nome_completo="Eva", turma=Turma.NEON))
    expect(session, "eva@example.com")

    assert link_group(session, ["eva"], Rules()) == []


def test_first_of_two_with_one_address_is_linked(session: Session) -> None:
    add(session), add(session, clerk_id="eve")
    expect(session, "eva@example.com")

    links = link_group(session, ["eve", "eva"], Rules())

    assert [link.clerk_id for link in links] == ["eve"]


def test_sweep_logs_each_link(session: Session, services: Services) -> None:
    eva = add(session)
    expect(session, "eva@example.com")

    with capture_logs() as logs:
        build_sweeper(services.provisioning).start("cli")

    [line] = [line for line in logs if line["event"] == "mentorado_linked"]
    assert (line["user_id"], line["entry"], "duration_ms" in line) == (eva.id, "sweep", True)


def test_poisoned_person_is_found_and_the_others_are_linked(
    session: Session, services: Services
) -> None:
    session.execute(text(CROWD.format(people=9)))
    third = session.scalars(select(User.id).where(User.clerk_id == "user_3")).one()
    session.execute(text(POISON.format(id=third)))
    session.commit()

    counts = build_sweeper(services.provisioning).start("clock")

    assert (counts.linked, counts.failed, counts.scanned) == (8, 1, 9)
    assert session.scalars(select(ProvisioningAttempt.clerk_id)).all() == ["user_3"]


def test_lost_connection_leaves_the_group_to_those_who_have_patience(
    session: Session, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(session)
    expect(session, "eva@example.com")
    asked: list[object] = []

    def gone(*about: object) -> None:
        asked.append(about)
        raise OperationalError("", None, Exception(), connection_invalidated=True)

    monkeypatch.setattr("sweep.executor.link_group", gone)

    assert (build_sweeper(services.provisioning).start("cli").linked, len(asked)) == (1, 1)


@pytest.fixture
def url(copy_database: Callable[[str], str], tmp_path: Path) -> str:
    """A database of the test's own."""
    return copy_database(f"group_{tmp_path.name}")


@pytest.fixture
def track(url: str, tmp_path: Path) -> Iterator[Flask]:
    """An app on that database."""
    with app_on(tmp_path, url) as app:
        yield app


PERSON = "SELECT id FROM users WHERE clerk_id = 'user_3' FOR NO KEY UPDATE"
ADDRESS = f"SELECT pg_advisory_xact_lock({ADDRESS_LOCKS}, hashtext('3@example.com'))"
PROFILE = "SELECT id FROM mentorados WHERE nome_completo = 'user_3' FOR UPDATE"


@pytest.mark.parametrize("held", [PERSON, ADDRESS, PROFILE])
def test_group_leaves_out_whom_somebody_holds_and_waits_for_nobody(
    track: Flask, url: str, held: str
) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(CROWD.format(people=8))
    sweeper = build_sweeper(track.extensions[EXTENSION].provisioning)
    closing = closing_of(sweeper)

    with locking(url, held), capture_logs() as logs:
        closing.link_group([f"user_{number}" for number in range(1, 9)])

    splits = [line for line in logs if line["event"] == "sweep_group_split"]
    assert (closing.counts.linked, count(url, RIGHT), splits) == (7, 7, [])


def test_logins_while_a_sweep_links_the_same_people(track: Flask, url: str) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(CROWD.format(people=60))

    sweep_among_logins(track, 60, doors=3)

    assert (count(url, RIGHT), count(url, "SELECT count(*) FROM mentorados")) == (60, 60)
