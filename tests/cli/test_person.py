"""The commands `flask person show|export|erase`."""

import json

import pytest
from flask import Flask
from flask.testing import FlaskCliRunner
from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from models import AuditEvent, Mentorado, User
from models.people import Turma
from tests.support.users import ALICE
from tests.support.whole_database import tables_with


@pytest.fixture
def runner(app: Flask, session: Session) -> FlaskCliRunner:
    """A runner of commands inside the test's transaction."""
    return app.test_cli_runner()


@pytest.mark.parametrize("who", ["user_alice", "ALICE@example.com", " alice@example.com "])
def test_person_is_found_by_clerk_id_and_address(
    runner: FlaskCliRunner, alice: Mentorado, who: str
) -> None:
    result = runner.invoke(args=["person", "show", who])

    assert (result.exit_code, "state: ready (Pronta)" in result.output) == (0, True)
    assert f"profiles: {alice.id}" in result.output


def test_person_is_found_by_id(runner: FlaskCliRunner, alice: Mentorado) -> None:
    result = runner.invoke(args=["person", "export", str(alice.user_id)])

    document = json.loads(result.stdout)
    assert (document["user_id"], document["mentorado_ids"]) == (alice.user_id, [alice.id])


@pytest.mark.parametrize("command", ["show", "export", "erase"])
@pytest.mark.parametrize("who", ["ninguem@example.com", "user_nobody", "999999", "a b", "x\n", "@"])
def test_unknown_person_is_one_line(runner: FlaskCliRunner, command: str, who: str) -> None:
    result = runner.invoke(args=["person", command, who])

    assert (result.exit_code, len(result.output.splitlines())) == (1, 1)


def test_dry_run_counts_and_erase_erases(
    runner: FlaskCliRunner, session: Session, connection: Connection, alice: Mentorado
) -> None:
    dry = runner.invoke(args=["person", "erase", ALICE.clerk_id, "--dry-run"])
    is_kept = ALICE.clerk_id in tables_with(connection, [ALICE.clerk_id])

    done = runner.invoke(args=["person", "erase", ALICE.clerk_id, "--reason", "pedido"])

    counts = json.loads(dry.stdout)
    assert (counts, is_kept) == ({"mentorados": 1, "users": 1}, True)
    assert (done.exit_code, done.stdout) == (0, f"{json.dumps(counts)}\nerased\n")
    assert tables_with(connection, [ALICE.clerk_id, str(ALICE.email)]) == {}
    event = session.scalars(select(AuditEvent).where(AuditEvent.event == "person_erased")).one()
    assert (event.entry, (event.details or {})["reason"]) == ("cli", "pedido")


def test_person_without_account_is_erased(
    runner: FlaskCliRunner, session: Session, connection: Connection
) -> None:
    session.add(Mentorado(nome_completo="Eva Melo", email="eva@example.com", turma=Turma.NEON))
    session.commit()

    shown = runner.invoke(args=["person", "show", "eva@example.com"]).output
    runner.invoke(args=["person", "erase", "eva@example.com"])

    assert "no account; pre-registered profiles" in shown
    assert tables_with(connection, ["eva@example.com"]) == {}


def test_address_of_several_accounts_is_refused(
    runner: FlaskCliRunner, session: Session, alice: Mentorado
) -> None:
    session.add(User(clerk_id="user_second", email=ALICE.email))
    session.commit()

    result = runner.invoke(args=["person", "erase", str(ALICE.email)])

    assert (result.exit_code, "2 accounts have that address" in result.output) == (1, True)
