"""The sweep: computes who has no profile and closes the difference, through the same `ensure`."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta

import structlog
from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.exc import SQLAlchemyError

from extensions import Transaction
from models import Mentorado, SweepRun, User
from models.user import Role
from provisioning import runs
from provisioning.ensure import Ensured, Outcome, foresee
from provisioning.errors import ProvisioningError
from provisioning.linking import Action, Rules

log = structlog.get_logger(__name__)

BATCH_SIZE = 200
BEAT_SECONDS = 3.0  # far below the lease, however slow each person is


class SweepStoppedError(Exception):
    """The process was asked to stop in the middle of a run; the next run does the rest."""


@dataclass(slots=True)
class Counts:
    """How far a run has come, in people."""

    total: int = 0
    scanned: int = 0
    created: int = 0
    linked: int = 0
    existing: int = 0
    failed: int = 0
    ambiguous: int = 0

    def add(self, outcome: Outcome | None, *, is_ambiguous: bool) -> None:
        """Count one person; no outcome means that it failed."""
        self.scanned += 1
        self.ambiguous += is_ambiguous
        match outcome:
            case None:
                self.failed += 1
            case Outcome.CREATED:
                self.created += 1
            case Outcome.LINKED | Outcome.CLAIMED:
                self.linked += 1
            case Outcome.EXISTING:
                self.existing += 1


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Runs sweeps for one process, known to the others as `owner`.

    `provide` ensures one person, by Clerk id, in a transaction of its own and tells the cache;
    `monotonic` is a clock in seconds.
    """

    owner: str
    transaction: Transaction
    provide: Callable[[str], Ensured]
    rules: Rules
    monotonic: Callable[[], float]
    batch_size: int = BATCH_SIZE
    on_progress: Callable[[Counts], None] | None = None
    should_stop: Callable[[], bool] = lambda: False

    def start(self, trigger: str, *, dry_run: bool = False) -> Counts:
        """Begin a run of our own and see it through; raises SweepRunningError while one is on."""
        with self.transaction() as session:
            run = runs.start(session, trigger=trigger, dry_run=dry_run, owner=self.owner)
        return self._see_through(run)

    def start_if_due(self, interval: timedelta) -> Counts | None:
        """Begin the clock's run unless another process has just done so."""
        with self.transaction() as session:
            if not runs.is_due(session, interval):
                return None
        return self.start("clock")

    def pick_up(self) -> Counts | None:
        """Run what an admin queued or a dead owner left; None when there is neither."""
        with self.transaction() as session:
            run = runs.take_over(session, owner=self.owner) or runs.take_queued(
                session, owner=self.owner
            )
        return self._see_through(run) if run else None

    def _see_through(self, run: SweepRun) -> Counts:
        counts = Counts()
        log.info("sweep_started", sweep_id=run.id, trigger=run.trigger, dry_run=run.dry_run)
        try:
            self._sweep(run, counts)
        except runs.LeaseLostError:
            log.warning("sweep_lost", sweep_id=run.id)
            raise
        except Exception as err:
            self._finish(run, counts, error=type(err).__name__)
            raise
        self._finish(run, counts)
        return counts

    def _sweep(self, run: SweepRun, counts: Counts) -> None:
        counts.total = self._count_missing()
        self._beat(run, counts)
        told_at = self.monotonic()
        for clerk_id in self._missing():
            if self.should_stop():
                raise SweepStoppedError("this process is stopping")
            outcome, is_ambiguous = (self._foresee if run.dry_run else self._ensure)(clerk_id)
            counts.add(outcome, is_ambiguous=is_ambiguous)
            if self.monotonic() - told_at > BEAT_SECONDS:
                self._beat(run, counts)
                log.info("sweep_progress", sweep_id=run.id, **asdict(counts))
                told_at = self.monotonic()

    def _count_missing(self) -> int:
        with self.transaction() as session:
            missing = select(func.count()).select_from(User).where(*_without_profile())
            return session.scalars(missing).one()

    def _missing(self) -> Iterator[str]:
        """Clerk ids of people without profile, in key order, a batch in memory at a time."""
        last_id = 0
        while True:
            with self.transaction() as session:
                batch = session.execute(
                    select(User.id, User.clerk_id)
                    .where(User.id > last_id, *_without_profile())
                    .order_by(User.id)
                    .limit(self.batch_size)
                ).all()
            if not batch:
                return
            yield from (row.clerk_id for row in batch)
            last_id = batch[-1].id

    def _ensure(self, clerk_id: str) -> tuple[Outcome | None, bool]:
        """Ensure one person; whoever cannot be helped now must not keep the others waiting."""
        try:
            ensured = self.provide(clerk_id)
        except (ProvisioningError, SQLAlchemyError):
            return None, False
        return ensured.outcome, ensured.is_ambiguous

    def _foresee(self, clerk_id: str) -> tuple[Outcome | None, bool]:
        with self.transaction() as session:
            decision, standing = foresee(session, clerk_id, self.rules)
        return FORESEEN[decision.action], standing.is_ambiguous

    def _beat(self, run: SweepRun, counts: Counts) -> None:
        with self.transaction() as session:
            runs.report(session, run.id, owner=self.owner, counts=asdict(counts))
        self._show(counts)

    def _finish(self, run: SweepRun, counts: Counts, error: str | None = None) -> None:
        with self.transaction() as session:
            runs.finish(session, run.id, owner=self.owner, counts=asdict(counts), error=error)
        log.info("sweep_finished", sweep_id=run.id, error=error, **asdict(counts))
        self._show(counts)

    def _show(self, counts: Counts) -> None:
        if self.on_progress is not None:
            self.on_progress(counts)


FORESEEN = {
    Action.KEEP: Outcome.EXISTING,
    Action.CLAIM: Outcome.CLAIMED,
    Action.LINK: Outcome.LINKED,
    Action.CREATE: Outcome.CREATED,
    Action.EXEMPT: Outcome.ADMIN,
    Action.DENY: Outcome.DENIED,
}


def _without_profile() -> tuple[ColumnElement[bool], ...]:
    """Who is due a profile: not blocked, no admin, and nothing links to them."""
    has_profile = exists().where(Mentorado.user_id == User.id)
    return (User.role == Role.USER, User.blocked_at.is_(None), ~has_profile)
