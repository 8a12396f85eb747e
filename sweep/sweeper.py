"""The sweep: closes the difference between who is due a profile and who has one.

Level-triggered: each run computes the difference anew and ends in the same guarantee as a login.
Its order keeps newcomers from waiting for users who are slow or have failed before:

1. Users with exactly one pre-registered profile are linked in groups.
2. Other users with pre-registered profiles are ensured one by one, for a moment only.
3. All other users without profile get one, a range of ids in one statement.
4. The rest of 2 is ensured one by one, with 1 to 3 again every few seconds.
5. Users with a failed attempt that is due are ensured one by one, for a limited time.
6. The identity provider is asked about users whose identity is incomplete, then about those whose
   identity is the oldest, for a limited time.
7. What remains of 5 is left to the next run of a scheduler; a run by hand does it, with 1 to 3
   again every few seconds.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from math import inf

import structlog
from sqlalchemy.orm import Session

from core.database import Transaction
from models import SweepRun
from provisioning import attempts, queries, webhook_messages
from provisioning.ensure import Ensured
from provisioning.rules import Rules
from sweep import runs
from sweep.batches import GROUP_SIZE, Link
from sweep.executor import Closing, Forecast
from sweep.heartbeat import Heartbeat
from sweep.identity_completion import Completion, Step
from sweep.progress import Counts
from sweep.runs import LeaseLostError, SweepStoppedError
from sweep.worklist import ASKED_ABOUT_AT_MOST, Pace, Worklist

log = structlog.get_logger(__name__)

BATCH_SIZE = 5_000  # more at a time is no quicker, and logins would wait for its log to be written
PROGRESS_SECONDS = 1.0  # often enough to watch

# How long newcomers may have to wait for others; at most half the scheduler's interval.
SINGLES_SECONDS = 2.0
RETRIES_SECONDS = 10.0
COMPLETION_SECONDS = 30.0
# While identities wait, a scheduler sweeps at least this often: how many are completed in a minute
# does not depend on its interval.
COMPLETION_INTERVAL = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Runs sweeps for one process, known to the others as `owner`.

    `provide` ensures one user, by Clerk id, in a transaction of its own, invalidates the cache, and
    records a failure; `complete` asks the identity provider about the user before, and is None
    where there is no provider; `refresh` asks again about a user whose identity is older than
    `max_age`. `open_beat` opens the heartbeat's transactions. `monotonic`
    is a clock in seconds, `now` the time of day. `on_batch` receives how many users a batch gave a
    profile, `on_link` each link of a group and the seconds it took. `interval` is the scheduler's.
    """

    owner: str
    transaction: Transaction
    open_beat: Transaction
    provide: Callable[[str], Ensured]
    complete: Callable[[str], Ensured | None] | None
    refresh: Callable[[str], Ensured | None]
    max_age: timedelta
    rules: Rules
    monotonic: Callable[[], float]
    now: Callable[[], datetime]
    interval: timedelta = timedelta(minutes=1)
    batch_size: int = BATCH_SIZE
    on_progress: Callable[[Counts], None] | None = None
    on_batch: Callable[[int], None] = lambda _: None
    on_link: Callable[[Link, float], None] = lambda *_: None
    should_stop: Callable[[], bool] = lambda: False

    def start(self, trigger: str, *, dry_run: bool = False) -> Counts:
        """Begin a run of our own and finish it; raises SweepRunningError while one is active."""
        with self.transaction() as session:
            run = runs.start(session, trigger=trigger, dry_run=dry_run, owner=self.owner)
        return self._see_through(run, is_dry=dry_run)

    def start_by_hand(self, *, dry_run: bool) -> Counts:
        """Sweep at once, for a command: as the queued run if there is one, in place of a dead one.

        A queued run that is not what was asked for: a dry one is done first; a real one stays in
        the queue while a dry one is asked for. Raises SweepRunningError while one is running.
        """
        while True:
            with self.transaction() as session:
                run = runs.claim(session, dry_run=dry_run, owner=self.owner)
            if dry_run or not run.dry_run:
                return self._see_through(run, is_dry=dry_run)
            self._see_through(run, is_dry=True)

    def look(self) -> Counts | None:
        """Run what a scheduler has to run just now; None when there is nothing."""
        with self.transaction() as session:
            interval = self._due_after(session)
            has_work = not self.should_stop() and runs.has_work(session, interval)
        return self.pick_up() or self.start_if_due(interval) if has_work else None

    def start_if_due(self, interval: timedelta) -> Counts | None:
        """Begin a scheduler's run unless another process has just done so."""
        with self.transaction() as session:
            run = runs.start_if_due(session, interval, owner=self.owner)
        return self._see_through(run, is_dry=False) if run else None

    def pick_up(self) -> Counts | None:
        """Run what an admin queued or a dead owner left; None when there is neither."""
        with self.transaction() as session:
            run = runs.take_over(session, owner=self.owner) or runs.take_queued(
                session, owner=self.owner
            )
        return self._see_through(run, is_dry=run.dry_run) if run else None

    def _due_after(self, session: Session) -> timedelta:
        if self.complete is None or self.interval <= COMPLETION_INTERVAL:
            return self.interval
        waits = queries.incomplete(session, self.now(), limit=1)
        return COMPLETION_INTERVAL if waits else self.interval

    def _see_through(self, run: SweepRun, *, is_dry: bool) -> Counts:
        counts = Counts() if is_dry else Counts.of(run)
        work = _Pass(self, run, is_dry, counts, self._heartbeat(run), began_at=self.monotonic())
        log.info("sweep_started", sweep_id=run.id, trigger=run.trigger, dry_run=is_dry)
        try:
            with work.heartbeat:
                work.sweep()
        except LeaseLostError:
            log.warning("sweep_lost", sweep_id=run.id)
            raise
        except SweepStoppedError as err:
            self._give_back(work, err)
            raise
        except BaseException as err:  # Ctrl-C as well: the next run must not wait for the lease
            self._end(work, error=type(err).__name__)
            raise
        self._end(work)
        return counts

    def _heartbeat(self, run: SweepRun) -> Heartbeat:
        return Heartbeat(
            run.id,
            self.owner,
            open_transaction=self.transaction,
            open_beat=self.open_beat,
            monotonic=self.monotonic,
            should_stop=self.should_stop,
        )

    def _give_back(self, work: "_Pass", err: SweepStoppedError) -> None:
        """Leave the run to another process; a dry one by command is only for who has typed it."""
        if work.is_dry and work.run.trigger == runs.BY_COMMAND:
            self._end(work, error=type(err).__name__)
        else:
            self._release(work)

    def _release(self, work: "_Pass") -> None:
        try:
            with self.transaction() as session:
                runs.release(session, work.run.id, owner=self.owner, counts=work.progress())
        except LeaseLostError:  # the heartbeat was faster
            return
        log.info("sweep_released", sweep_id=work.run.id)

    def _end(self, work: "_Pass", error: str | None = None) -> None:
        """Close the run; a real one of which only a forecast was asked stays to be done."""
        run, numbers = work.run, work.counts.numbers()
        if work.is_dry and not run.dry_run:
            self._release(work)
            return
        sample = work.counts.sample if run.dry_run else None
        with self.transaction() as session:
            runs.finish(
                session, run.id, owner=self.owner, counts=numbers, sample=sample, error=error
            )
        lasted = round((self.monotonic() - work.began_at) * 1000, 1)
        log.info("sweep_finished", sweep_id=run.id, error=error, duration_ms=lasted, **numbers)
        self.show(work.counts)

    def show(self, counts: Counts) -> None:
        """Show how far a run is to the operator who watches it here."""
        if self.on_progress is not None:
            self.on_progress(counts)


@dataclass(slots=True)
class _Pass:
    """The work of one run."""

    sweeper: Sweeper
    run: SweepRun
    is_dry: bool
    counts: Counts
    heartbeat: Heartbeat
    began_at: float
    told_at: float = -inf

    def sweep(self) -> None:
        """Do all of it; raises SweepStoppedError, LeaseLostError and what the database raises."""
        if not self.is_dry:
            self._tidy_up()
        worklist, hands = self._worklist(), self._hands()
        missing = worklist.count_missing()
        self.counts.total = self.counts.scanned + missing + worklist.count_once_failed()
        self._tell()
        singles = self._newcomers(worklist, hands, missing)
        while not self._take(singles, RETRIES_SECONDS):
            self._newcomers(worklist, hands, worklist.count_missing())
        failed = (partial(hands.one, clerk_id) for clerk_id in worklist.once_failed())
        is_done = self._take(failed, RETRIES_SECONDS)
        if isinstance(hands, Closing):
            self._identities(worklist, hands)
        while not is_done and self.run.trigger != runs.CLOCK:
            self._newcomers(worklist, hands, worklist.count_missing())
            is_done = self._take(failed, RETRIES_SECONDS)

    def _newcomers(
        self, worklist: Worklist, hands: Closing | Forecast, missing: int
    ) -> Iterator[Step]:
        """Users without a failed attempt, of whom so many have no profile.

        Returns the steps for those who are left over, who may be slow and are done one by one.
        """
        if isinstance(hands, Closing):
            self._take(partial(hands.together, group) for group in worklist.groups(GROUP_SIZE))
        # Level-triggered within the run as well: whom no group could help is still to be found.
        singles = (partial(hands.one, clerk_id) for clerk_id in worklist.who_might_link())
        self._take(singles, SINGLES_SECONDS)
        if missing:
            pace = Pace(self.sweeper.batch_size, self.sweeper.monotonic)
            ranges = worklist.ranges(pace)
            self._take(partial(pace.timed, partial(hands.many, ids)) for ids in ranges)
        return singles

    def _identities(self, worklist: Worklist, closing: Closing) -> None:
        if self.sweeper.complete is None:
            return
        completion = Completion(
            partial(closing.learn, self.sweeper.complete), worklist.note_unanswered
        )
        if self._take(completion.steps(worklist.incomplete()), COMPLETION_SECONDS):
            completion.learn = partial(closing.learn, self.sweeper.refresh)
            oldest = islice(worklist.longest_unasked(self.sweeper.max_age), ASKED_ABOUT_AT_MOST)
            self._take(completion.steps(oldest), COMPLETION_SECONDS)
        if completion.stopped_by is not None:
            log.info("completion_put_off", sweep_id=self.run.id, reason=completion.stopped_by)

    def _take(self, steps: Iterator[Step], seconds: float | None = None) -> bool:
        """Take one step after the other, for so long at most; returns whether there are no more.

        Between two steps others learn how far the run is, and this process whether to go on.
        """
        until = self.sweeper.monotonic() + self._limited(seconds)
        for step in steps:
            self.heartbeat.check()
            step()
            now = self.sweeper.monotonic()
            if now - self.told_at > PROGRESS_SECONDS:
                self._tell()
                log.info("sweep_progress", sweep_id=self.run.id, **self.counts.numbers())
            if now > until:
                return False
        return True

    def _limited(self, seconds: float | None) -> float:
        if seconds is None or self.is_dry:
            return inf
        return min(seconds, self.sweeper.interval.total_seconds() / 2)

    def _tell(self) -> None:
        self.heartbeat.beat(lambda session: self._report(session, self.counts))
        self.told_at = self.sweeper.monotonic()
        self.sweeper.show(self.counts)

    def progress(self, counts: Counts | None = None) -> dict[str, int]:
        """What the run has come to; a real one makes no progress while it is only forecast."""
        is_forecast = self.is_dry and not self.run.dry_run
        return {} if is_forecast else (counts or self.counts).numbers()

    def _report(self, session: Session, counts: Counts) -> None:
        numbers = self.progress(counts)
        runs.report(session, self.run.id, owner=self.sweeper.owner, counts=numbers)

    def _worklist(self) -> Worklist:
        sweeper, now = self.sweeper, self.sweeper.now()
        return Worklist(
            self.heartbeat.transaction,
            sweeper.batch_size,
            started_at=now,
            due_at=now if self.run.trigger == runs.CLOCK else None,
        )

    def _hands(self) -> Closing | Forecast:
        sweeper = self.sweeper
        if self.is_dry:
            return Forecast(self.heartbeat.transaction, sweeper.rules, self.counts)
        return Closing(
            self.heartbeat.transaction,
            sweeper.provide,
            sweeper.rules,
            self.counts,
            self._report,
            sweeper.on_batch,
            sweeper.on_link,
            sweeper.monotonic,
        )

    def _tidy_up(self) -> None:
        with self.heartbeat.transaction() as session:
            attempts.delete_resolved(session, self.sweeper.rules)
            webhook_messages.forget_old(session, self.sweeper.now())
            runs.forget_old(session, self.sweeper.now())
