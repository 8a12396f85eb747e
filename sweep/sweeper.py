"""The sweep: find users without a profile and ensure one for each.

Level-triggered: each run computes the difference anew, under the same rules as a login. The order
keeps new users from waiting for users who are slow or have failed before:

0. Except in a dry run, the retention is applied: old rows and values are deleted, and people whose
   account was deleted long ago are erased, for `RETENTION_SECONDS`.
1. Users with exactly one pre-registered profile are linked in groups.
2. Other users with pre-registered profiles are ensured one by one, for `ONE_BY_ONE_SECONDS`.
3. All other users without a profile get one, a range of ids in one statement.
4. The rest of 2 is ensured one by one, with 1 to 3 again every few seconds.
5. Users with a failed attempt that is due are ensured one by one, for a limited time.
6. Identities that are incomplete are refreshed from the identity provider, then the oldest ones,
   for a limited time.
7. A scheduled run leaves the rest of 5 to the next one. A run by command does it, with 1 to 3
   again every few seconds.
"""

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from math import inf
from typing import TypeVar

import structlog
from sqlalchemy.orm import Session

from core.database import background_transaction
from models import SweepRun
from provisioning import attempts, audit, clerk_messages, identity_lookups
from provisioning.audit import Source
from provisioning.errors import IdentityUnavailableError
from provisioning.service import ProvisioningService
from sweep import runs
from sweep.batches import GROUP_SIZE
from sweep.executor import DryRunExecutor, SweepCounts, SweepExecutor
from sweep.heartbeat import POLL_SECONDS, Heartbeat
from sweep.missing_users import MOST_LOOKUPS, BatchSizer, SweepUsers
from sweep.runs import RunLeaseLostError, SweepStoppedError

log = structlog.get_logger(__name__)

Item = TypeVar("Item")

BATCH_SIZE = 5_000  # larger batches are no faster, and logins would wait for their WAL flush
PROGRESS_SECONDS = 1.0
RETENTION_SOURCE = Source("sweep", reason="retention")  # of erasures

# Limits of the steps that new users may wait for; each is at most half the scheduler's interval.
ONE_BY_ONE_SECONDS = 2.0
RETRIES_SECONDS = 10.0
COMPLETION_SECONDS = 30.0
RETENTION_SECONDS = 5.0
# While identities are incomplete, a scheduler sweeps at least this often. The number completed per
# minute then does not depend on its interval.
COMPLETION_INTERVAL = timedelta(minutes=1)


def _process_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Runs sweeps for one process; `owner` is its name in the run rows.

    `interval` is the scheduler's. `on_progress` receives the counts of the run about once a second.
    `monotonic` returns seconds, `now` the current time. `heartbeat_poll_seconds` is the time
    between two checks of the heartbeat.
    """

    provisioning: ProvisioningService
    interval: timedelta = timedelta(minutes=1)
    batch_size: int = BATCH_SIZE
    on_progress: Callable[[SweepCounts], None] = lambda _: None
    should_stop: Callable[[], bool] = lambda: False
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    heartbeat_poll_seconds: float = POLL_SECONDS
    owner: str = field(default_factory=_process_name)

    def start(self, trigger: str, *, dry_run: bool = False) -> SweepCounts:
        """Start a run and finish it; raises SweepRunningError while one is active."""
        with background_transaction() as session:
            run = runs.start(session, trigger=trigger, dry_run=dry_run, owner=self.owner)
        return self._run(run, is_dry=dry_run)

    def start_by_command(self, *, dry_run: bool) -> SweepCounts:
        """Sweep now, for a command; takes over the queued run, or a run without a heartbeat.

        A queued dry run is done first if a real one is requested. A queued real run stays in the
        queue if a dry one is requested. Raises SweepRunningError while one is running.
        """
        while True:
            with background_transaction() as session:
                run = runs.start_for_command(session, dry_run=dry_run, owner=self.owner)
            if dry_run or not run.dry_run:
                return self._run(run, is_dry=dry_run)
            self._run(run, is_dry=True)

    def run_if_due(self, longest: timedelta = timedelta.max) -> SweepCounts | None:
        """Run the queued, abandoned or due run; returns None if there is none.

        A scheduled run is due an interval after the one before, at most `longest` after it.
        """
        with background_transaction() as session:
            is_early = self.interval > COMPLETION_INTERVAL and self._has_incomplete(session)
            interval = min(COMPLETION_INTERVAL if is_early else self.interval, longest)
            has_work = not self.should_stop() and runs.has_work(session, interval)
        if not has_work:
            return None
        with background_transaction() as session:
            run = (
                runs.replace_dead(session, owner=self.owner)
                or runs.start_queued(session, owner=self.owner)
                or runs.start_if_due(session, interval, owner=self.owner)
            )
        return self._run(run, is_dry=run.dry_run) if run else None

    def time_until_needed(self, longest: timedelta) -> timedelta:
        """Return how long an unused installation needs no sweep; zero or less for none.

        Zero while a run is queued or running, whose owner may die. Otherwise until a failed attempt
        or an incomplete identity is due, at most `longest` after the last scheduled run.
        """
        with background_transaction() as session:
            is_active, since_scheduled = runs.read_schedule(session)
            asks_provider = self.provisioning.directory is not None
            due_at = attempts.next_due_at(session, with_identities=asks_provider)
            has_incomplete = self._has_incomplete(session)
        if is_active or since_scheduled is None:
            return timedelta(0)
        pause = longest
        if has_incomplete:
            pause = min(pause, self.interval, COMPLETION_INTERVAL)
        if due_at is not None:
            pause = min(pause, max(self.interval, since_scheduled - (self.now() - due_at)))
        return pause - since_scheduled

    def _has_incomplete(self, session: Session) -> bool:
        """Whether the identity provider can be asked about a user whose identity is incomplete."""
        if self.provisioning.directory is None:
            return False
        return bool(identity_lookups.incomplete_users(session, self.now(), limit=1))

    def _run(self, run: SweepRun, *, is_dry: bool) -> SweepCounts:
        heartbeat = Heartbeat(
            run.id,
            self.owner,
            should_stop=self.should_stop,
            monotonic=self.monotonic,
            poll_seconds=self.heartbeat_poll_seconds,
        )
        kind = DryRunExecutor if is_dry else SweepExecutor
        counts = SweepCounts() if is_dry else SweepCounts.of(run)
        executor = kind(heartbeat, self.provisioning, counts, self.now)
        sweep_pass = _SweepPass(self, run, is_dry, heartbeat, executor, self.monotonic())
        log.info("sweep_started", sweep_id=run.id, trigger=run.trigger, dry_run=is_dry)
        try:
            with heartbeat:
                sweep_pass.sweep()
        except RunLeaseLostError:
            log.warning("sweep_lost", sweep_id=run.id)
            raise
        except SweepStoppedError as err:
            # The output of a dry run by command is local, so that no other process continues it.
            is_local = is_dry and run.trigger == runs.COMMAND
            sweep_pass.end(type(err).__name__, is_released=not is_local)
            raise
        except BaseException as err:  # Ctrl-C as well: the next run must not wait for the lease
            sweep_pass.end(type(err).__name__)
            raise
        sweep_pass.end()
        return executor.counts


@dataclass(slots=True)
class _SweepPass:
    """The work of one run; `is_dry` also for a dry run by command in place of a queued real one."""

    sweeper: Sweeper
    run: SweepRun
    is_dry: bool
    heartbeat: Heartbeat
    executor: SweepExecutor
    started_at: float
    reported_at: float = -inf
    users: SweepUsers = field(init=False)

    def __post_init__(self) -> None:
        now = self.sweeper.now()
        due_at = now if self.run.trigger == runs.SCHEDULED else None
        self.users = SweepUsers(self.heartbeat.transaction, self.sweeper.batch_size, now, due_at)

    def sweep(self) -> None:
        """Do all steps, numbered as in the docstring of the module.

        Raises SweepStoppedError, RunLeaseLostError and SQLAlchemyError.
        """
        if not self.is_dry:
            self._apply_retention()  # 0
        users, counts = self.users, self.executor.counts
        missing = users.count_missing()
        counts.total = counts.scanned + missing + users.count_failed()
        self._report_progress()
        singles = self._provide_profiles(missing)  # 1 to 3
        while not self._for_each(singles, self.executor.ensure_one, RETRIES_SECONDS):  # 4
            self._provide_profiles(users.count_missing())
        failed = users.failed()
        is_done = self._for_each(failed, self.executor.ensure_one, RETRIES_SECONDS)  # 5
        if not self.is_dry and self.sweeper.provisioning.directory is not None:
            self._refresh_identities()  # 6
        while not is_done and self.run.trigger != runs.SCHEDULED:  # 7
            self._provide_profiles(users.count_missing())
            is_done = self._for_each(failed, self.executor.ensure_one, RETRIES_SECONDS)

    def _apply_retention(self) -> None:
        """Delete old rows, strip old audit events, and erase people whose retention has ended."""
        service, now = self.sweeper.provisioning, self.sweeper.now()
        with self.heartbeat.transaction() as session:
            attempts.delete_resolved(session, service.rules)
            clerk_messages.delete_old_messages(session, now)
            runs.delete_old(session, now)
            audit.strip_old_events(session, now - service.retention.audit_values)
            expired = clerk_messages.expired_accounts(session, service.retention, now)
        erase = partial(service.erase_account, source=RETENTION_SOURCE, now=now)
        self._for_each(expired, erase, RETENTION_SECONDS)

    def _provide_profiles(self, missing: int) -> Iterator[str]:
        """Link or create profiles for users without a failed attempt; `missing` have none yet.

        Returns the remaining users, who are ensured one by one because they may be slow.
        """
        if not self.is_dry:
            self._for_each(self.users.groups(GROUP_SIZE), self.executor.link_group)
        # Level-triggered within the run as well: users that no group linked are found again here.
        singles = self.users.linkable()
        self._for_each(singles, self.executor.ensure_one, ONE_BY_ONE_SECONDS)
        if missing:
            sizer = BatchSizer(self.sweeper.batch_size, self.sweeper.monotonic)
            self._for_each(
                self.users.ranges(sizer),
                lambda ids: sizer.measure(partial(self.executor.create_range, ids)),
            )
        return singles

    def _refresh_identities(self) -> None:
        """Refresh incomplete identities, then the oldest ones, as long as the provider answers."""
        service, refresh = self.sweeper.provisioning, self.executor.refresh_identity
        complete = partial(refresh, service.complete_from_clerk)
        refresh_old = partial(refresh, partial(service.complete_from_clerk, is_refresh=True))
        oldest = islice(self.users.longest_unasked(service.max_age), MOST_LOOKUPS)
        try:
            if self._for_each(self.users.incomplete(), complete, COMPLETION_SECONDS):
                self._for_each(oldest, refresh_old, COMPLETION_SECONDS)
        except IdentityUnavailableError as err:
            log.info("identity_lookups_stopped", sweep_id=self.run.id, reason=str(err))

    def _for_each(
        self,
        items: Iterable[Item],
        step: Callable[[Item], object],
        seconds: float | None = None,
    ) -> bool:
        """Do a step for one item after the other; returns whether all are done.

        A real run takes at most `seconds`. Between steps it checks the lease and the stop signal,
        and reports progress.
        """
        monotonic, limit = self.sweeper.monotonic, inf
        if seconds is not None and not self.is_dry:
            limit = min(seconds, self.sweeper.interval.total_seconds() / 2)
        deadline = monotonic() + limit
        for item in items:
            self.heartbeat.check()
            step(item)
            now = monotonic()
            if now - self.reported_at > PROGRESS_SECONDS:
                self._report_progress()
                numbers = self.executor.counts.numbers()
                log.info("sweep_progress", sweep_id=self.run.id, **numbers)
            if now > deadline:
                return False
        return True

    def _report_progress(self) -> None:
        self.heartbeat.beat(self._counts_to_store())
        self.reported_at = self.sweeper.monotonic()
        self.sweeper.on_progress(self.executor.counts)

    @property
    def _is_preview(self) -> bool:
        """Whether the run is a real one that a command only previews."""
        return self.is_dry and not self.run.dry_run

    def _counts_to_store(self) -> dict[str, int]:
        return {} if self._is_preview else self.executor.counts.numbers()

    def end(self, error: str | None = None, *, is_released: bool = False) -> None:
        """Finish the run, or return it to the queue if it is released or was only previewed."""
        if is_released or self._is_preview:
            with suppress(RunLeaseLostError):  # the heartbeat thread has released it
                self.heartbeat.release(self._counts_to_store())
            return
        run, counts, sweeper = self.run, self.executor.counts, self.sweeper
        numbers, sample = counts.numbers(), counts.sample if run.dry_run else None
        with background_transaction() as session:
            runs.finish(
                session, run.id, owner=sweeper.owner, counts=numbers, sample=sample, error=error
            )
        duration_ms = round((sweeper.monotonic() - self.started_at) * 1000, 1)
        log.info("sweep_finished", sweep_id=run.id, error=error, duration_ms=duration_ms, **numbers)
        sweeper.on_progress(counts)
