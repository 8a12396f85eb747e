"""The sweep when the database goes away under it, and its odd cases."""

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
from sweep import batches, missing_profiles
from sweep.progress import SAMPLE_SIZE, SweepCounts
from sweep.scheduler import build_sweeper
from sweep.sweeper import Sweeper
from tests.support.users import NOW
from web.services import Services


@pytest.fixture
def sweeper(services: Services, session: Session) -> Sweeper:
    """A sweeper on the test's own connection."""
    return build_sweeper(services.provisioning)


def test_database_that_goes_away_from_one_person_ends_the_run(
    session: Session, sweeper: Sweeper
) -> None:
    session.add(User(clerk_id="eva", email="eva@example.com", email_verified=True))
    for _ in range(2):  # so that she is looked at by herself
        session.add(Mentorado(nome_completo="Eva", email="eva@example.com", turma=Turma.NEON))
    session.commit()

    def gone(clerk_id: str) -> EnsureResult:
        raise DatabaseUnavailableError(clerk_id)

    with pytest.raises(DatabaseUnavailableError):
        replace(sweeper, ensure_user=gone).start("cli")

    assert session.scalars(select(SweepRun.error)).one() == "DatabaseUnavailableError"


def test_database_that_goes_away_from_a_batch_ends_the_run(
    session: Session, sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.add(User(clerk_id="eva"))
    session.commit()

    def gone(*_: object) -> tuple[int, int]:
        lost = OperationalError("", None, psycopg2.OperationalError(), connection_invalidated=True)
        raise lost

    monkeypatch.setattr(batches, "create_range", gone)
    monkeypatch.setattr(missing_profiles, "create_range_with_locks", gone)
    monkeypatch.setattr("sweep.executor.PATIENCE_SECONDS", 0)

    with pytest.raises(OperationalError):
        sweeper.start("cli")


def test_forecast_counts_whom_only_a_record_knows(session: Session, sweeper: Sweeper) -> None:
    times = {"first_failed_at": NOW, "last_failed_at": NOW, "next_attempt_at": NOW}
    session.add(
        ProvisioningAttempt(clerk_id="x", state="pending", attempts=1, error_class="E", **times)
    )
    session.commit()

    counts = sweeper.start("cli", dry_run=True)

    assert (counts.created, counts.sample) == (1, [])


@pytest.mark.parametrize("outcome", [Outcome.ADMIN, Outcome.DENIED])
def test_who_gets_nothing_is_looked_at_all_the_same(outcome: Outcome) -> None:
    counts = SweepCounts()

    counts.add(outcome)

    assert (counts.scanned, counts.created, counts.existing, counts.failed) == (1, 0, 0, 0)


def test_sample_ends_at_its_size() -> None:
    counts = SweepCounts()

    for user_id in range(SAMPLE_SIZE + 1):
        counts.show(user_id, Outcome.CREATED)

    assert len(counts.sample) == SAMPLE_SIZE
