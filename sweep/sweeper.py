"""The sweep: find users without a profile and ensure one for each.

Level-triggered: each run computes the difference anew, under the same rules as a login. The order
keeps new users from waiting for users who are slow or have failed before:

0. Except in a dry run, the retention is applied: old rows and values are deleted, and people whose
   account was deleted long ago are erased, for `RETENTION_SECONDS`.
1. Users with exactly one pre-registered profile are linked in groups.
2. Other users with pre-registered profiles are ensured one by one, for `SINGLES_SECONDS`.
3. All other users without a profile get one, a range of ids in one statement.
4. The rest of 2 is ensured one by one, with 1 to 3 again every few seconds.
5. Users with a failed attempt that is due are ensured one by one, for a limited time.
6. Identities that are incomplete are refreshed from the identity provider, then the oldest ones,
   for a limited time.
7. A scheduled run leaves the rest of 5 to the next one. A run by command does it, with 1 to 3
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
from provisioning import attempts, audit, clerk_messages, identity_store
from provisioning.clerk_messages import RetentionPolicy
from provisioning.ensure import EnsureResult
from provisioning.rules import Rules
from sweep import runs
from sweep.batches import GROUP_SIZE, Link
from sweep.executor import DryRunExecutor, IdentityCompletion, Step, SweepCounts, SweepExecutor
from sweep.heartbeat import POLL_SECONDS, Heartbeat
from sweep.missing_users import MOST_LOOKUPS, BatchSizer, SweepUsers
from sweep.runs import LeaseLostError, SweepStoppedError

log = structlog.get_logger(__name__)

BATCH_SIZE = 5_000  # larger batches are no faster, and logins would wait for their WAL flush
PROGRESS_SECONDS = 1.0

# Limits of the steps that new users may wait for; each is at most half the scheduler's interval.
SINGLES_SECONDS = 2.0
RETRIES_SECONDS = 10.0
COMPLETION_SECONDS = 30.0
RETENTION_SECONDS = 5.0
# While identities are incomplete, a scheduler sweeps at least this often. The number completed per
# minute then does not depend on its interval.
COMPLETION_INTERVAL = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Runs sweeps for one process; `owner` is its name in the run rows.

    `ensure_user` ensures one user by Clerk id in a transaction of its own, invalidates the cache,
    and records a failure. `complete_from_clerk` first reads the user from the identity provider,
    and records an unusable answer; it is None without a provider. `refresh_old_identity` reads a
    user again whose identity is older than `max_age`. `erase_account` erases the person of a
    deleted account whose `retention` has ended. `open_heartbeat_transaction` is the heartbeat's.
    `monotonic` returns seconds, `now` the current time. `on_batch` receives the number of profiles
    that a batch created, `on_link` each link of a group and its seconds. `interval` is the
    scheduler's.
    """

    owner: str
    transaction: Transaction
    open_heartbeat_transaction: Transaction
    ensure_user: Callable[[str], EnsureResult]
    complete_from_clerk: Callable[[str], EnsureResult | None] | None
    refresh_old_identity: Callable[[str], EnsureResult | None]
    max_age: timedelta
    erase_account: Callable[[int], None]
    retention: RetentionPolicy
    rules: Rules
    monotonic: Callable[[], float]
    now: Callable[[], datetime]
    interval: timedelta = timedelta(minutes=1)
    batch_size: int = BATCH_SIZE
    heartbeat_poll_seconds: float = POLL_SECONDS
    on_progress: Callable[[SweepCounts], None] | None = None
    on_batch: Callable[[int], None] = lambda _: None
    on_link: Callable[[Link, float], None] = lambda *_: None
    should_stop: Callable[[], bool] = lambda: False

    def start(self, trigger: str, *, dry_run: bool = False) -> SweepCounts:
        """Start a run and finish it; raises SweepRunningError while one is active."""
        with self.transaction() as session:
            run = runs.start(session, trigger=trigger, dry_run=dry_run, owner=self.owner)
        return self._run(run, is_dry=dry_run)

    def start_by_command(self, *, dry_run: bool) -> SweepCounts:
        """Sweep now, for a command; takes over the queued run, or a run without a heartbeat.

        A queued dry run is done first if a real one is requested. A queued real run stays in the
        queue if a dry one is requested. Raises SweepRunningError while one is running.
        """
        while True:
            with self.transaction() as session:
                run = runs.claim(session, dry_run=dry_run, owner=self.owner)
            if dry_run or not run.dry_run:
                return self._run(run, is_dry=dry_run)
            self._run(run, is_dry=True)

    def run_if_due(self, longest: timedelta = timedelta.max) -> SweepCounts | None:
        """Run the queued, abandoned or due run; returns None if there is none.

        A scheduled run is due an interval after the one before, at most `longest` after it.
        """
        with self.transaction() as session:
            interval = min(self._due_after(session), longest)
            has_work = not self.should_stop() and runs.has_work(session, interval)
        if not has_work:
            return None
        return self.run_waiting() or self.start_if_due(interval)

    def start_if_due(self, interval: timedelta) -> SweepCounts | None:
        """Start a scheduled run unless another process has started one within the interval."""
        with self.transaction() as session:
            run = runs.start_if_due(session, interval, owner=self.owner)
        return self._run(run, is_dry=False) if run else None

    def run_waiting(self) -> SweepCounts | None:
        """Run the queued run, or the run of a dead owner; returns None if there is neither."""
        with self.transaction() as session:
            run = runs.take_over(session, owner=self.owner) or runs.take_queued(
                session, owner=self.owner
            )
        return self._run(run, is_dry=run.dry_run) if run else None

    def time_until_needed(self, longest: timedelta) -> timedelta:
        """Return how long an unused installation needs no sweep; zero or less for none.

        Zero while a run is queued or running, whose owner may die. Otherwise until a failed attempt
        or an incomplete identity is due, at most `longest` after the last scheduled run.
        """
        with self.transaction() as session:
            schedule = runs.read_schedule(session)
            asks_provider = self.complete_from_clerk is not None
            due_at = attempts.next_due_at(session, with_identities=asks_provider)
            has_incomplete = asks_provider and identity_store.incomplete_users(
                session, self.now(), limit=1
            )
        if schedule.is_active or schedule.since_scheduled is None:
            return timedelta(0)
        pause = longest
        if has_incomplete:
            pause = min(pause, self.interval, COMPLETION_INTERVAL)
        if due_at is not None:
            since_due = self.now() - due_at
            pause = min(pause, max(self.interval, schedule.since_scheduled - since_due))
        return pause - schedule.since_scheduled

    def _due_after(self, session: Session) -> timedelta:
        if self.complete_from_clerk is None or self.interval <= COMPLETION_INTERVAL:
            return self.interval
        has_incomplete = identity_store.incomplete_users(session, self.now(), limit=1)
        return COMPLETION_INTERVAL if has_incomplete else self.interval

    def _run(self, run: SweepRun, *, is_dry: bool) -> SweepCounts:
        counts = SweepCounts() if is_dry else SweepCounts.of(run)
        sweep_pass = _SweepPass(
            self, run, is_dry, counts, self._heartbeat(run), started_at=self.monotonic()
        )
        log.info("sweep_started", sweep_id=run.id, trigger=run.trigger, dry_run=is_dry)
        try:
            with sweep_pass.heartbeat:
                sweep_pass.sweep()
        except LeaseLostError:
            log.warning("sweep_lost", sweep_id=run.id)
            raise
        except SweepStoppedError as err:
            self._end_stopped(sweep_pass, err)
            raise
        except BaseException as err:  # Ctrl-C as well: the next run must not wait for the lease
            self._end(sweep_pass, error=type(err).__name__)
            raise
        self._end(sweep_pass)
        return counts

    def _heartbeat(self, run: SweepRun) -> Heartbeat:
        return Heartbeat(
            run.id,
            self.owner,
            open_transaction=self.transaction,
            open_heartbeat_transaction=self.open_heartbeat_transaction,
            monotonic=self.monotonic,
            should_stop=self.should_stop,
            poll_seconds=self.heartbeat_poll_seconds,
        )

    def _end_stopped(self, sweep_pass: "_SweepPass", err: SweepStoppedError) -> None:
        """Release the run to another process; end a dry run by command, whose output is local."""
        if sweep_pass.is_dry and sweep_pass.run.trigger == runs.COMMAND:
            self._end(sweep_pass, error=type(err).__name__)
        else:
            self._release(sweep_pass)

    def _release(self, sweep_pass: "_SweepPass") -> None:
        try:
            with self.transaction() as session:
                runs.release(
                    session, sweep_pass.run.id, owner=self.owner, counts=sweep_pass.progress()
                )
        except LeaseLostError:  # the heartbeat thread has released it
            return
        log.info("sweep_released", sweep_id=sweep_pass.run.id)

    def _end(self, sweep_pass: "_SweepPass", error: str | None = None) -> None:
        """Finish the run; a real run that was only forecast returns to the queue."""
        run, numbers = sweep_pass.run, sweep_pass.counts.numbers()
        if sweep_pass.is_dry and not run.dry_run:
            self._release(sweep_pass)
            return
        sample = sweep_pass.counts.sample if run.dry_run else None
        with self.transaction() as session:
            runs.finish(
                session, run.id, owner=self.owner, counts=numbers, sample=sample, error=error
            )
        duration_ms = round((self.monotonic() - sweep_pass.started_at) * 1000, 1)
        log.info("sweep_finished", sweep_id=run.id, error=error, duration_ms=duration_ms, **numbers)
        self.show_progress(sweep_pass.counts)

    def show_progress(self, counts: SweepCounts) -> None:
        """Pass the counts of a run to the command that displays them, if there is one."""
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
    started_at: float
    reported_at: float = -inf

    def sweep(self) -> None:
        """Do all steps, numbered as in the docstring of the module.

        Raises SweepStoppedError, LeaseLostError and SQLAlchemyError.
        """
        if not self.is_dry:
            self._apply_retention()  # 0
        users, executor = self._users(), self._executor()
        missing = users.count_missing()
        self.counts.total = self.counts.scanned + missing + users.count_failed_users()
        self._report_progress()
        singles = self._provide_profiles(users, executor, missing)  # 1 to 3
        while not self._run_steps(singles, RETRIES_SECONDS):  # 4
            self._provide_profiles(users, executor, users.count_missing())
        failed = (partial(executor.ensure_one, clerk_id) for clerk_id in users.failed_users())
        is_done = self._run_steps(failed, RETRIES_SECONDS)  # 5
        if isinstance(executor, SweepExecutor):
            self._refresh_identities(users, executor)  # 6
        while not is_done and self.run.trigger != runs.SCHEDULED:  # 7
            self._provide_profiles(users, executor, users.count_missing())
            is_done = self._run_steps(failed, RETRIES_SECONDS)

    def _provide_profiles(
        self, users: SweepUsers, executor: SweepExecutor | DryRunExecutor, missing: int
    ) -> Iterator[Step]:
        """Link or create profiles for users without a failed attempt; `missing` have none yet.

        Returns the remaining steps, for users who are ensured one by one because they may be slow.
        """
        if isinstance(executor, SweepExecutor):
            self._run_steps(
                partial(executor.link_group, group) for group in users.groups(GROUP_SIZE)
            )
        # Level-triggered within the run as well: users that no group linked are found again here.
        singles = (partial(executor.ensure_one, clerk_id) for clerk_id in users.linkable_users())
        self._run_steps(singles, SINGLES_SECONDS)
        if missing:
            sizer = BatchSizer(self.sweeper.batch_size, self.sweeper.monotonic)
            ranges = users.ranges(sizer)
            self._run_steps(
                partial(sizer.measure, partial(executor.create_range, ids)) for ids in ranges
            )
        return singles

    def _refresh_identities(self, users: SweepUsers, executor: SweepExecutor) -> None:
        if self.sweeper.complete_from_clerk is None:
            return
        completion = IdentityCompletion(users.note_unanswered)
        incomplete = completion.steps(
            users.incomplete(),
            partial(executor.refresh_identity, self.sweeper.complete_from_clerk),
        )
        if self._run_steps(incomplete, COMPLETION_SECONDS):
            oldest = completion.steps(
                islice(users.longest_unasked(self.sweeper.max_age), MOST_LOOKUPS),
                partial(executor.refresh_identity, self.sweeper.refresh_old_identity),
            )
            self._run_steps(oldest, COMPLETION_SECONDS)
        if completion.stopped_by is not None:
            log.info("identity_lookups_stopped", sweep_id=self.run.id, reason=completion.stopped_by)

    def _run_steps(self, steps: Iterator[Step], seconds: float | None = None) -> bool:
        """Run one step after the other for at most `seconds`; returns whether all are done.

        Between steps it checks the lease and the stop signal, and reports progress.
        """
        deadline = self.sweeper.monotonic() + self._time_limit(seconds)
        for step in steps:
            self.heartbeat.check()
            step()
            now = self.sweeper.monotonic()
            if now - self.reported_at > PROGRESS_SECONDS:
                self._report_progress()
                log.info("sweep_progress", sweep_id=self.run.id, **self.counts.numbers())
            if now > deadline:
                return False
        return True

    def _time_limit(self, seconds: float | None) -> float:
        if seconds is None or self.is_dry:
            return inf
        return min(seconds, self.sweeper.interval.total_seconds() / 2)

    def _report_progress(self) -> None:
        self.heartbeat.beat(lambda session: self._report(session, self.counts))
        self.reported_at = self.sweeper.monotonic()
        self.sweeper.show_progress(self.counts)

    def progress(self, counts: SweepCounts | None = None) -> dict[str, int]:
        """Return the counts to store; a real run stores none while it is only forecast."""
        is_forecast = self.is_dry and not self.run.dry_run
        return {} if is_forecast else (counts or self.counts).numbers()

    def _report(self, session: Session, counts: SweepCounts) -> None:
        numbers = self.progress(counts)
        runs.report(session, self.run.id, owner=self.sweeper.owner, counts=numbers)

    def _users(self) -> SweepUsers:
        sweeper, now = self.sweeper, self.sweeper.now()
        return SweepUsers(
            self.heartbeat.transaction,
            sweeper.batch_size,
            started_at=now,
            due_at=now if self.run.trigger == runs.SCHEDULED else None,
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

    def _apply_retention(self) -> None:
        """Delete old rows, strip old audit events, and erase people whose retention has ended."""
        sweeper, now = self.sweeper, self.sweeper.now()
        with self.heartbeat.transaction() as session:
            attempts.delete_resolved(session, sweeper.rules)
            clerk_messages.delete_old_messages(session, now)
            runs.delete_old(session, now)
            audit.strip_old_events(session, now - sweeper.retention.audit_values)
            expired = clerk_messages.expired_accounts(session, sweeper.retention, now)
        self._run_steps(
            (partial(sweeper.erase_account, user_id) for user_id in expired), RETENTION_SECONDS
        )
