"""Sweeps that lose the database, and rare cases of their counts."""

from dataclasses import replace

import psycopg2
import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from models import Mentorado, ProvisioningAttempt, SweepRun, User
from models.mentorado import Turma
from provisioning.ensure import EnsureResult, Outcome
from provisioning.errors import DatabaseUnavailableError
from sweep import batches
from sweep.executor import SAMPLE_SIZE, SweepCounts
from sweep.scheduler import build_sweeper
from sweep.sweeper import Sweeper
from tests.support.users import NOW
from web.services import Services


@pytest.fixture
def sweeper(services: Services, session: Session) -> Sweeper:
    """A sweeper on the connection of the test."""
    return build_sweeper(services.provisioning)


def test_database_lost_during_one_user_ends_the_run(session: Session, sweeper: Sweeper) -> None:
    session.add(User(clerk_id="eva", email="eva@example.com", email_verified=True))
    for _ in range(2):  # an ambiguous user is processed alone
        session.add(Mentorado(nome_completo="Eva", email="eva@example.com", turma=Turma.NEON))
    session.commit()

    def lose_database(clerk_id: str) -> EnsureResult:
        raise DatabaseUnavailableError(clerk_id)

    with pytest.raises(DatabaseUnavailableError):
        replace(sweeper, ensure_user=lose_database).start("cli")

    assert session.scalars(select(SweepRun.error)).one() == "DatabaseUnavailableError"


def test_database_lost_during_a_batch_ends_the_run(
    session: Session, sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.add(User(clerk_id="eva"))
    session.commit()

    def lose_database(*_: object) -> tuple[int, int]:
        error = OperationalError("", None, psycopg2.OperationalError(), connection_invalidated=True)
        raise error

    monkeypatch.setattr(batches, "create_range", lose_database)
    monkeypatch.setattr(batches, "create_range_with_locks", lose_database)
    monkeypatch.setattr("sweep.executor.RETRY_SECONDS", 0)

    with pytest.raises(OperationalError):
        sweeper.start("cli")


def test_dry_run_counts_an_attempt_without_a_stored_user(
    session: Session, sweeper: Sweeper
) -> None:
    times = {"first_failed_at": NOW, "last_failed_at": NOW, "next_attempt_at": NOW}
    session.add(
        ProvisioningAttempt(clerk_id="x", state="pending", attempts=1, error_class="E", **times)
    )
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
