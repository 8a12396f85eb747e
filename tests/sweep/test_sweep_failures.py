"""Sweeps that lose the database, and rare cases of their counts."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from benchmarks.databases import connect_to, count
from models import Mentorado, SweepRun, User
from models.people import Turma
from provisioning.ensure import EnsureResult, Outcome
from provisioning.errors import DatabaseUnavailableError
from sweep.executor import SAMPLE_SIZE, SweepCounts
from sweep.sweeper import Sweeper
from tests.support.apps import create_app_on
from tests.support.sweeps import executor_of, with_service
from tests.support.users import failed_attempt
from web.services import EXTENSION, Services

ADD_EVA = """
INSERT INTO users (clerk_id, email, email_verified) VALUES ('eva', 'eva@example.com', true)
"""
PRE_REGISTER_EVA = """
INSERT INTO mentorados (nome_completo, email, turma) VALUES ('Eva', 'eva@example.com', 'neon')
"""
# The server ends the session at the first changes of a profile. Rollbacks do not reset a sequence.
LOSE_CONNECTIONS = """
CREATE SEQUENCE losses;
CREATE FUNCTION lose_connection() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('losses') <= {times} THEN
        PERFORM pg_terminate_backend(pg_backend_pid());
    END IF; RETURN NEW; END $$;
CREATE TRIGGER lose_connection BEFORE {event} ON mentorados
   FOR EACH ROW EXECUTE FUNCTION lose_connection();
"""


@pytest.fixture
def sweeper(services: Services, session: Session) -> Sweeper:
    """A sweeper on the connection of the test."""
    return Sweeper(services.provisioning)


def test_database_lost_during_one_user_ends_the_run(session: Session, sweeper: Sweeper) -> None:
    session.add(User(clerk_id="eva", email="eva@example.com", email_verified=True))
    for _ in range(2):  # an ambiguous user is processed alone
        session.add(Mentorado(nome_completo="Eva", email="eva@example.com", turma=Turma.NEON))
    session.commit()

    def lose_database(clerk_id: str) -> EnsureResult:
        raise DatabaseUnavailableError(clerk_id)

    with pytest.raises(DatabaseUnavailableError):
        with_service(sweeper, ensure=lose_database).start("cli")

    assert session.scalars(select(SweepRun.error)).one() == "DatabaseUnavailableError"


@pytest.fixture
def app_with_commits(url: str, tmp_path: Path) -> Iterator[Flask]:
    """An app on that database."""
    with create_app_on(tmp_path, url) as app:
        yield app


def test_group_is_processed_one_by_one_after_a_lost_connection(
    app_with_commits: Flask, url: str
) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(ADD_EVA)
        connection.exec_driver_sql(PRE_REGISTER_EVA)
        connection.exec_driver_sql(LOSE_CONNECTIONS.format(event="UPDATE", times=1))
    sweeper = Sweeper(app_with_commits.extensions[EXTENSION].provisioning)

    with capture_logs() as logs:
        counts = sweeper.start("cli")

    splits = [line["reason"] for line in logs if line["event"] == "sweep_group_split"]
    assert (counts.linked, counts.failed, splits) == (1, 0, ["OperationalError"])


def test_connections_lost_during_each_try_of_a_batch_end_the_sweep(
    app_with_commits: Flask, url: str
) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(ADD_EVA)
        connection.exec_driver_sql(LOSE_CONNECTIONS.format(event="INSERT", times=99))
    sweeper = Sweeper(app_with_commits.extensions[EXTENSION].provisioning)
    executor = replace(executor_of(sweeper), retry_seconds=0.2)

    with pytest.raises(OperationalError):
        executor.create_range((0, 99))

    assert count(url, "SELECT last_value FROM losses") > 2


def test_dry_run_counts_an_attempt_without_a_stored_user(
    session: Session, sweeper: Sweeper
) -> None:
    session.add(failed_attempt("x", "pending"))
    session.commit()

    counts = sweeper.start("cli", dry_run=True)

    assert (counts.created, counts.sample) == (1, [])


@pytest.mark.parametrize("outcome", [Outcome.ADMIN, Outcome.DENIED])
def test_user_without_change_is_counted_as_scanned(outcome: Outcome) -> None:
    counts = SweepCounts()

    counts.add(outcome)

    assert (counts.scanned, counts.created, counts.existing, counts.failed) == (1, 0, 0, 0)


def test_sample_is_limited_to_its_size() -> None:
    counts = SweepCounts()

    for user_id in range(SAMPLE_SIZE + 1):
        counts.add_to_sample(user_id, Outcome.CREATED)

    assert len(counts.sample) == SAMPLE_SIZE
