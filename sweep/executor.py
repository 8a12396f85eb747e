"""Carry out the steps of a sweep and count the results.

Link groups, create ranges, ensure users one by one, and refresh identities.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from time import monotonic
from typing import Any

import structlog
from sqlalchemy.exc import NoResultFound, SQLAlchemyError
from sqlalchemy.orm import Session

from auth.identity import Identity
from core import metrics
from models import SweepRun
from provisioning.admin_actions import may_create_profiles
from provisioning.audit import Source
from provisioning.ensure import CHANGES, EnsureResult, Outcome, preview_decision
from provisioning.errors import (
    DatabaseUnavailableError,
    IdentityUnavailableError,
    ProvisioningError,
)
from provisioning.identity_lookups import mark_identity_asked
from provisioning.retry import is_outage, retry_transient
from provisioning.rules import Action
from provisioning.service import ProvisioningService
from sweep import batches
from sweep.batches import ContendedError, Links
from sweep.heartbeat import Heartbeat
from sweep.missing_users import Range, count_range, first_in_range

log = structlog.get_logger(__name__)

SAMPLE_SIZE = 20
SOURCE = Source("sweep")
RETRY_SECONDS = 3.0  # for a batch that fails with a transient error
# A single failure may concern its user only; a second one in a row concerns the provider.
FAILURES_IN_A_ROW = 2
OUTCOMES = {
    Action.KEEP: Outcome.EXISTING,
    Action.CLAIM: Outcome.CLAIMED,
    Action.LINK: Outcome.LINKED,
    Action.CREATE: Outcome.CREATED,
    Action.EXEMPT: Outcome.ADMIN,
    Action.DENY: Outcome.DENIED,
}


@dataclass(slots=True)
class SweepCounts:
    """The counts of a run; `sample` holds the outcomes of the first users of a dry run."""

    total: int = 0
    scanned: int = 0
    created: int = 0
    linked: int = 0
    existing: int = 0
    failed: int = 0
    ambiguous: int = 0
    sample: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, run: SweepRun) -> "SweepCounts":
        """Read the counts of a run; they are not zero if another process released the run."""
        stored: dict[str, Any] = {name: getattr(run, name) or 0 for name in cls().numbers()}
        return cls(**stored)

    def numbers(self) -> dict[str, int]:
        """Return the counts by column name, without the sample."""
        counts = asdict(self)
        del counts["sample"]
        return counts

    def add(self, outcome: Outcome | None, *, is_ambiguous: bool = False) -> None:
        """Count one user; `outcome` is None for a failure."""
        self.scanned += 1
        self.ambiguous += is_ambiguous
        self.total = max(self.total, self.scanned)  # users may have been added since the count
        match outcome:
            case None:
                self.failed += 1
            case Outcome.CREATED:
                self.created += 1
            case Outcome.LINKED | Outcome.CLAIMED:
                self.linked += 1
            case Outcome.EXISTING:
                self.existing += 1

    def add_batch(self, due: int, created: int, existing: int = 0) -> None:
        """Count a batch of users; the rules create no profile for those in neither number."""
        self.scanned += due
        self.created += created
        self.existing += existing
        self.total = max(self.total, self.scanned)

    def add_to_sample(self, user_id: int, outcome: Outcome) -> None:
        """Add a user to the sample unless it is full."""
        if len(self.sample) < SAMPLE_SIZE:
            self.sample.append({"user_id": user_id, "outcome": str(outcome)})


@dataclass(slots=True)
class SweepExecutor:
    """Links and creates profiles, and counts the results.

    Each batch reports its counts in its own transaction, which raises RunLeaseLostError. A batch
    that fails with a transient error is retried for `retry_seconds`.
    """

    heartbeat: Heartbeat
    provisioning: ProvisioningService
    counts: SweepCounts
    now: Callable[[], datetime]
    retry_seconds: float = RETRY_SECONDS
    _failed_lookups: int = 0  # in a row

    def ensure_one(self, clerk_id: str) -> None:
        """Ensure one user; a failure of this user is counted and does not stop the sweep."""
        try:
            result = self.provisioning.ensure(Identity(clerk_id), source=SOURCE, now=self.now())
        except DatabaseUnavailableError:
            raise  # it concerns all users
        except ProvisioningError:
            self.counts.add(None)
        else:
            self.counts.add(result.outcome, is_ambiguous=result.is_ambiguous)

    def link_group(self, clerk_ids: Sequence[str]) -> None:
        """Link the users of a group who need a link only; later steps find the others."""
        started = monotonic()
        linked: Links = []
        try:
            with self._batch() as (session, counts):
                linked = batches.link_group(session, clerk_ids, self.provisioning.rules)
                for _ in linked:
                    counts.add(Outcome.LINKED)
        except SQLAlchemyError as err:
            log.warning("sweep_group_split", users=len(clerk_ids), reason=type(err).__name__)
            if len(clerk_ids) > 1 and not is_outage(err):
                middle = len(clerk_ids) // 2
                self.link_group(clerk_ids[:middle])
                self.link_group(clerk_ids[middle:])
            return
        duration_ms = round((monotonic() - started) * 1000, 1)
        for link in linked:
            metrics.ENSURES.labels("sweep", "linked").inc()
            log.info(
                "mentorado_linked",
                user_id=link.user_id,
                mentorado_id=link.mentorado_id,
                entry="sweep",
                duration_ms=duration_ms,
            )

    def create_range(self, ids: Range) -> None:
        """Create the profiles of a range in one statement; on conflict again, with row locks."""
        try:
            self._create_batch(ids, has_locks=False)
        except (SQLAlchemyError, ContendedError) as err:
            log.info("sweep_batch_contended", after_id=ids[0], reason=type(err).__name__)
            self._create_with_locks(ids)

    def _create_with_locks(self, ids: Range) -> None:
        """Create a range, skipping locked rows; halve it if a row fails for good.

        A single user is ensured alone.
        """
        try:
            retry_transient(
                lambda: self._create_batch(ids, has_locks=True),
                seconds_left=lambda: self.retry_seconds,
                on_retry=lambda reason: log.warning("sweep_batch_retried", reason=reason),
            )
        except SQLAlchemyError as err:
            if is_outage(err):
                raise
            low, high = ids
            log.warning("sweep_batch_split", after_id=low, last_id=high)
            if high - low > 1:
                middle = (low + high) // 2
                self._create_with_locks((low, middle))
                self._create_with_locks((middle, high))
                return
            with self.heartbeat.transaction() as session:
                remaining = first_in_range(session, ids, 1)
            for _, clerk_id in remaining:
                self.ensure_one(clerk_id)

    def _create_batch(self, ids: Range, *, has_locks: bool) -> None:
        before = self.counts.created
        with self._batch() as (session, counts):
            if not may_create_profiles(session, self.provisioning.rules):
                counts.add_batch(count_range(session, ids), 0)
            elif has_locks:
                due, created = batches.create_range_with_locks(session, ids)
                counts.add_batch(due, created, existing=due - created)  # elsewhere meanwhile
            else:
                created = batches.create_range(session, ids)
                counts.add_batch(created, created)
        metrics.ENSURES.labels("sweep", "created").inc(self.counts.created - before)

    @contextmanager
    def _batch(self) -> Iterator[tuple[Session, SweepCounts]]:
        """Open a transaction that writes the progress, too; its counts hold after the commit."""
        updated = replace(self.counts)
        with self.heartbeat.transaction() as session:
            yield session, updated
            self.heartbeat.report(session, updated.numbers())
        self.counts = updated

    def refresh_identity(self, refresh: Callable[..., EnsureResult | None], clerk_id: str) -> None:
        """Refresh one user, who has a profile already; counted only if the profile changes.

        `refresh` is the method of the provisioning service that asks the identity provider. Raises
        IdentityUnavailableError if no user can be looked up. After a first failed call only this
        user is moved behind the others for the next run.
        """
        try:
            result = refresh(clerk_id, source=SOURCE, now=self.now())
        except DatabaseUnavailableError:
            raise
        except IdentityUnavailableError as err:
            if err.wait_seconds is not None:
                raise
            with self.heartbeat.transaction() as session:
                mark_identity_asked(session, clerk_id, self.now())
            self._failed_lookups += 1
            if self._failed_lookups == FAILURES_IN_A_ROW:
                raise
            return
        except ProvisioningError:
            result = None  # recorded as a failed attempt, which a later sweep retries
        self._failed_lookups = 0
        if result and result.outcome in CHANGES:
            self.counts.add(result.outcome, is_ambiguous=result.is_ambiguous)


class DryRunExecutor(SweepExecutor):
    """Counts the outcomes that a real sweep would have, and keeps a sample; writes nothing."""

    __slots__ = ()

    def ensure_one(self, clerk_id: str) -> None:
        """Count the decision of `ensure`; a user known from a failed attempt only is created."""
        with self.heartbeat.transaction() as session:
            try:
                preview = preview_decision(session, clerk_id, self.provisioning.rules)
            except NoResultFound:
                self.counts.add(Outcome.CREATED)
                return
        outcome = OUTCOMES[preview.decision.action]
        self.counts.add(outcome, is_ambiguous=preview.facts.is_ambiguous)
        self.counts.add_to_sample(preview.user_id, outcome)

    def create_range(self, ids: Range) -> None:
        """Count the users of a range who would get a profile by the set-based step."""
        with self.heartbeat.transaction() as session:
            due = count_range(session, ids)
            if not may_create_profiles(session, self.provisioning.rules):
                self.counts.add_batch(due, 0)
                return
            first = first_in_range(session, ids, SAMPLE_SIZE)
        self.counts.add_batch(due, due)
        for user_id, _ in first:
            self.counts.add_to_sample(user_id, Outcome.CREATED)
