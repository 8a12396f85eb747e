"""The sweep: closes the difference between who is due a profile and who has one.

Level-triggered: each run computes the difference anew and ends in the same guarantee as a login.
Whoever needs no decision is provided for a batch at a time, in one statement; whoever plainly links
in groups; whoever has failed before, and everybody else, one by one. Nobody keeps the others
waiting.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog
from sqlalchemy.orm import Session

from extensions import Transaction
from models import SweepRun
from provisioning import attempts, messages, runs
from provisioning.closing import Closing
from provisioning.counts import Counts
from provisioning.ensure import Ensured
from provisioning.errors import IdentityUnavailableError
from provisioning.forecast import Forecast
from provisioning.linking import Rules
from provisioning.pace import Pace
from provisioning.together import GROUP_SIZE, Link
from provisioning.worklist import Worklist

log = structlog.get_logger(__name__)

BATCH_SIZE = 5_000  # more at a time is no quicker, and logins would wait for its log to be written
Step = Callable[[], None]

BEAT_SECONDS = 1.0  # far below the lease, and often enough to watch


class SweepStoppedError(Exception):
    """The process was asked to stop in the middle of a run; another one takes it up."""


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Runs sweeps for one process, known to the others as `owner`.

    `provide` ensures one person, by Clerk id, in a transaction of its own, tells the cache, and
    records a failure; `complete` asks the identity provider about them before. `monotonic` is a
    clock in seconds, `now` the time of day. `on_batch` hears how many a batch has given a profile,
    `on_link` of each person who was linked in a group, and in how many seconds.
    """

    owner: str
    transaction: Transaction
    provide: Callable[[str], Ensured]
    complete: Callable[[str], Ensured | None]
    rules: Rules
    monotonic: Callable[[], float]
    now: Callable[[], datetime]
    batch_size: int = BATCH_SIZE
    on_progress: Callable[[Counts], None] | None = None
    on_batch: Callable[[int], None] = lambda _: None
    on_link: Callable[[Link, float], None] = lambda *_: None
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
        counts, started = Counts(), self.monotonic()
        log.info("sweep_started", sweep_id=run.id, trigger=run.trigger, dry_run=run.dry_run)
        try:
            self._sweep(run, counts)
        except runs.LeaseLostError:
            log.warning("sweep_lost", sweep_id=run.id)
            raise
        except SweepStoppedError:
            self._release(run)
            raise
        except BaseException as err:  # Ctrl-C as well: the next run must not wait for the lease
            self._finish(run, counts, started, error=type(err).__name__)
            raise
        self._finish(run, counts, started)
        return counts

    def _sweep(self, run: SweepRun, counts: Counts) -> None:
        worklist = Worklist(
            self.transaction, self.batch_size, self.now() if run.trigger == "clock" else None
        )
        if not run.dry_run:
            self._tidy_up()
        missing = worklist.count_missing()
        counts.total = missing + worklist.count_once_failed()
        self._beat(run, counts)
        pace = Pace(self.batch_size, self.monotonic) if missing else None
        steps = partial(_steps, worklist, pace=pace)
        if run.dry_run:
            self._take(steps(Forecast(self.transaction, self.rules, counts)), run, counts)
            return
        closing = self._closing(run, counts)
        groups = worklist.groups(GROUP_SIZE)
        self._take((partial(closing.together, group) for group in groups), run, counts)
        # Level-triggered within the run as well: whom no group could help is still to be found.
        self._take(steps(closing), run, counts)
        try:
            self._take((partial(closing.learn, who) for who in worklist.incomplete()), run, counts)
        except IdentityUnavailableError as err:
            log.info("completion_put_off", sweep_id=run.id, reason=str(err))

    def _closing(self, run: SweepRun, counts: Counts) -> Closing:
        report = partial(self._report, run.id)
        return Closing(
            self.transaction,
            self.provide,
            self.rules,
            counts,
            report,
            self.complete,
            self.on_batch,
            self.on_link,
            self.monotonic,
        )

    def _take(self, steps: Iterator[Step], run: SweepRun, counts: Counts) -> None:
        """Take one step after the other, with a sign of life in between."""
        told_at = self.monotonic()
        for step in steps:
            if self.should_stop():
                raise SweepStoppedError("this process is stopping")
            step()
            if self.monotonic() - told_at > BEAT_SECONDS:
                self._beat(run, counts)
                log.info("sweep_progress", sweep_id=run.id, **counts.numbers())
                told_at = self.monotonic()

    def _report(self, run_id: int, session: Session, counts: Counts) -> None:
        runs.report(session, run_id, owner=self.owner, counts=counts.numbers())

    def _tidy_up(self) -> None:
        with self.transaction() as session:
            attempts.forget_the_helped(session)
            messages.forget_old(session, self.now())
            runs.forget_old(session, self.now())

    def _beat(self, run: SweepRun, counts: Counts) -> None:
        with self.transaction() as session:
            self._report(run.id, session, counts)
        self._show(counts)

    def _release(self, run: SweepRun) -> None:
        with self.transaction() as session:
            runs.release(session, run.id, owner=self.owner)
        log.info("sweep_released", sweep_id=run.id)

    def _finish(
        self, run: SweepRun, counts: Counts, started: float, error: str | None = None
    ) -> None:
        numbers, sample = counts.numbers(), counts.sample if run.dry_run else None
        with self.transaction() as session:
            runs.finish(
                session, run.id, owner=self.owner, counts=numbers, sample=sample, error=error
            )
        lasted = round((self.monotonic() - started) * 1000, 1)
        log.info("sweep_finished", sweep_id=run.id, error=error, duration_ms=lasted, **numbers)
        self._show(counts)

    def _show(self, counts: Counts) -> None:
        if self.on_progress is not None:
            self.on_progress(counts)


def _steps(worklist: Worklist, hands: Closing | Forecast, *, pace: Pace | None) -> Iterator[Step]:
    """The work of a pass, a piece at a time, each short enough to stop after it; without a pace
    nobody is missing.
    """
    yield from (partial(hands.one, clerk_id) for clerk_id in worklist.who_might_link())
    yield from (partial(hands.one, clerk_id) for clerk_id in worklist.once_failed())
    if pace:
        yield from (partial(pace.timed, partial(hands.many, r)) for r in worklist.ranges(pace))
