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
from provisioning.ensure import EnsureResult
from provisioning.rules import Rules
from sweep import runs
from sweep.batches import GROUP_SIZE, Link
from sweep.executor import DryRunExecutor, SweepExecutor
from sweep.heartbeat import Heartbeat
from sweep.identity_completion import IdentityCompletion, Step
from sweep.progress import SweepCounts
from sweep.runs import LeaseLostError, SweepStoppedError
from sweep.worklist import MOST_LOOKUPS, BatchSizer, Worklist

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
    open_heartbeat_connection: Transaction
    ensure_user: Callable[[str], EnsureResult]
    refresh_from_clerk: Callable[[str], EnsureResult | None] | None
    refresh_identity: Callable[[str], EnsureResult | None]
    max_age: timedelta
    rules: Rules
    monotonic: Callable[[], float]
    now: Callable[[], datetime]
    interval: timedelta = timedelta(minutes=1)
    batch_size: int = BATCH_SIZE
    on_progress: Callable[[SweepCounts], None] | None = None
    on_batch: Callable[[int], None] = lambda _: None
    on_link: Callable[[Link, float], None] = lambda *_: None
    should_stop: Callable[[], bool] = lambda: False

    def start(self, trigger: str, *, dry_run: bool = False) -> SweepCounts:
        """Begin a run of our own and finish it; raises SweepRunningError while one is active."""
        with self.transaction() as session:
            run = runs.start(session, trigger=trigger, dry_run=dry_run, owner=self.owner)
        return self._run(run, is_dry=dry_run)

    def start_by_hand(self, *, dry_run: bool) -> SweepCounts:
        """Sweep at once, for a command: as the queued run if there is one, in place of a dead one.

        A queued run that is not what was asked for: a dry one is done first; a real one stays in
        the queue while a dry one is asked for. Raises SweepRunningError while one is running.
        """
        while True:
            with self.transaction() as session:
                run = runs.claim(session, dry_run=dry_run, owner=self.owner)
            if dry_run or not run.dry_run:
                return self._run(run, is_dry=dry_run)
            self._run(run, is_dry=True)

    def take_over_if_due(self) -> SweepCounts | None:
        """Run what a scheduler has to run just now; None when there is nothing."""
        with self.transaction() as session:
            interval = self._due_after(session)
            has_work = not self.should_stop() and runs.has_work(session, interval)
        return self.pick_up() or self.start_if_due(interval) if has_work else None

    def start_if_due(self, interval: timedelta) -> SweepCounts | None:
        """Begin a scheduler's run unless another process has just done so."""
        with self.transaction() as session:
            run = runs.start_if_due(session, interval, owner=self.owner)
        return self._run(run, is_dry=False) if run else None

    def pick_up(self) -> SweepCounts | None:
        """Run what an admin queued or a dead owner left; None when there is neither."""
        with self.transaction() as session:
            run = runs.take_over(session, owner=self.owner) or runs.take_queued(
                session, owner=self.owner
            )
        return self._run(run, is_dry=run.dry_run) if run else None

    def _due_after(self, session: Session) -> timedelta:
        if self.refresh_from_clerk is None or self.interval <= COMPLETION_INTERVAL:
            return self.interval
        waits = queries.incomplete_users(session, self.now(), limit=1)
        return COMPLETION_INTERVAL if waits else self.interval

    def _run(self, run: SweepRun, *, is_dry: bool) -> SweepCounts:
        counts = SweepCounts() if is_dry else SweepCounts.of(run)
        work = _SweepPass(
            self, run, is_dry, counts, self._heartbeat(run), began_at=self.monotonic()
        )
        log.info("sweep_started", sweep_id=run.id, trigger=run.trigger, dry_run=is_dry)
        try:
            with work.heartbeat:
                work.sweep()
        except LeaseLostError:
            log.warning("sweep_lost", sweep_id=run.id)
            raise
        except SweepStoppedError as err:
            self._release_run(work, err)
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
            open_beat=self.open_heartbeat_connection,
            monotonic=self.monotonic,
            should_stop=self.should_stop,
        )

    def _release_run(self, work: "_SweepPass", err: SweepStoppedError) -> None:
        """Leave the run to another process; a dry one by command is only for who has typed it."""
        if work.is_dry and work.run.trigger == runs.BY_COMMAND:
            self._end(work, error=type(err).__name__)
        else:
            self._release(work)

    def _release(self, work: "_SweepPass") -> None:
        try:
            with self.transaction() as session:
                runs.release(session, work.run.id, owner=self.owner, counts=work.progress())
        except LeaseLostError:  # the heartbeat was faster
            return
        log.info("sweep_released", sweep_id=work.run.id)

    def _end(self, work: "_SweepPass", error: str | None = None) -> None:
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

    def show(self, counts: SweepCounts) -> None:
        """Show how far a run is to the operator who watches it here."""
        if self.on_progress is not None:
            self.on_progress(counts)


@dataclass(slots=True)
class _SweepPass:
    """The work of one run."""

    sweeper: Sweeper
    run: SweepRun
    is_dry: bool
    counts: SweepCounts
    heartbeat: Heartbeat
    began_at: float
    reported_at: float = -inf

    def sweep(self) -> None:
        """Do all of it; raises SweepStoppedError, LeaseLostError and what the database raises."""
        if not self.is_dry:
            self._delete_old_rows()
        worklist, hands = self._worklist(), self._executor()
        missing = worklist.count_missing()
        self.counts.total = self.counts.scanned + missing + worklist.count_failed_users()
        self._report_progress()
        singles = self._users_without_profile(worklist, hands, missing)
        while not self._run_batches(singles, RETRIES_SECONDS):
            self._users_without_profile(worklist, hands, worklist.count_missing())
        failed = (partial(hands.ensure_one, clerk_id) for clerk_id in worklist.failed_users())
        is_done = self._run_batches(failed, RETRIES_SECONDS)
        if isinstance(hands, SweepExecutor):
            self._identities(worklist, hands)
        while not is_done and self.run.trigger != runs.CLOCK:
            self._users_without_profile(worklist, hands, worklist.count_missing())
            is_done = self._run_batches(failed, RETRIES_SECONDS)

    def _users_without_profile(
        self, worklist: Worklist, hands: SweepExecutor | DryRunExecutor, missing: int
    ) -> Iterator[Step]:
        """Users without a failed attempt, of whom so many have no profile.

        Returns the steps for those who are left over, who may be slow and are done one by one.
        """
        if isinstance(hands, SweepExecutor):
            self._run_batches(
                partial(hands.link_group, group) for group in worklist.groups(GROUP_SIZE)
            )
        # Level-triggered within the run as well: whom no group could help is still to be found.
        singles = (partial(hands.ensure_one, clerk_id) for clerk_id in worklist.linkable_users())
        self._run_batches(singles, SINGLES_SECONDS)
        if missing:
            pace = BatchSizer(self.sweeper.batch_size, self.sweeper.monotonic)
            ranges = worklist.ranges(pace)
            self._run_batches(
                partial(pace.measure, partial(hands.create_range, ids)) for ids in ranges
            )
        return singles

    def _identities(self, worklist: Worklist, closing: SweepExecutor) -> None:
        if self.sweeper.refresh_from_clerk is None:
            return
        completion = IdentityCompletion(
            partial(closing.refresh_identity, self.sweeper.refresh_from_clerk),
            worklist.note_unanswered,
        )
        if self._run_batches(completion.steps(worklist.incomplete()), COMPLETION_SECONDS):
            completion.refresh_identity = partial(
                closing.refresh_identity, self.sweeper.refresh_identity
            )
            oldest = islice(worklist.longest_unasked(self.sweeper.max_age), MOST_LOOKUPS)
            self._run_batches(completion.steps(oldest), COMPLETION_SECONDS)
        if completion.stopped_by is not None:
            log.info("completion_put_off", sweep_id=self.run.id, reason=completion.stopped_by)

    def _run_batches(self, steps: Iterator[Step], seconds: float | None = None) -> bool:
        """Take one step after the other, for so long at most; returns whether there are no more.

        Between two steps others learn how far the run is, and this process whether to go on.
        """
        until = self.sweeper.monotonic() + self._limited(seconds)
        for step in steps:
            self.heartbeat.check()
            step()
            now = self.sweeper.monotonic()
            if now - self.reported_at > PROGRESS_SECONDS:
                self._report_progress()
                log.info("sweep_progress", sweep_id=self.run.id, **self.counts.numbers())
            if now > until:
                return False
        return True

    def _limited(self, seconds: float | None) -> float:
        if seconds is None or self.is_dry:
            return inf
        return min(seconds, self.sweeper.interval.total_seconds() / 2)

    def _report_progress(self) -> None:
        self.heartbeat.beat(lambda session: self._report(session, self.counts))
        self.reported_at = self.sweeper.monotonic()
        self.sweeper.show(self.counts)

    def progress(self, counts: SweepCounts | None = None) -> dict[str, int]:
        """What the run has come to; a real one makes no progress while it is only forecast."""
        is_forecast = self.is_dry and not self.run.dry_run
        return {} if is_forecast else (counts or self.counts).numbers()

    def _report(self, session: Session, counts: SweepCounts) -> None:
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

    def _executor(self) -> SweepExecutor | DryRunExecutor:
        sweeper = self.sweeper
        if self.is_dry:
            return DryRunExecutor(self.heartbeat.transaction, sweeper.rules, self.counts)
        return SweepExecutor(
            self.heartbeat.transaction,
            sweeper.ensure_user,
            sweeper.rules,
            self.counts,
            self._report,
            sweeper.on_batch,
            sweeper.on_link,
            sweeper.monotonic,
        )

    def _delete_old_rows(self) -> None:
        with self.heartbeat.transaction() as session:
            attempts.delete_resolved(session, self.sweeper.rules)
            webhook_messages.delete_old(session, self.sweeper.now())
            runs.delete_old(session, self.sweeper.now())
