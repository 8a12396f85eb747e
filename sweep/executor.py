"""Carry out the steps of a sweep and count the results.

Link groups, create ranges, ensure users one by one, and refresh identities.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import structlog
from sqlalchemy.exc import NoResultFound, SQLAlchemyError
from sqlalchemy.orm import Session

from core.database import Transaction
from models import SweepRun
from provisioning.admin_actions import may_create_profiles
from provisioning.ensure import CHANGES, EnsureResult, Outcome, forecast_decision
from provisioning.errors import (
    DatabaseUnavailableError,
    IdentityUnavailableError,
    ProvisioningError,
)
from provisioning.retry import is_outage, retry_transient
from provisioning.rules import Action, Rules
from sweep import batches, missing_users
from sweep.batches import ContendedError, Link, link_group
from sweep.missing_users import Range

log = structlog.get_logger(__name__)

SAMPLE_SIZE = 20
Step = Callable[[], None]
RangeResult = tuple[int, int]  # users that were due, and how many of them got a profile
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
        counts = cls()
        for name in counts.numbers():
            setattr(counts, name, getattr(run, name) or 0)
        return counts

    def numbers(self) -> dict[str, int]:
        """Return the counts by column name, without the sample."""
        counts = asdict(self)
        del counts["sample"]
        return counts

    def replace_with(self, committed: "SweepCounts") -> None:
        """Replace the counts by those that a transaction has just committed."""
        for name, value in asdict(committed).items():
            setattr(self, name, value)

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

    def add_batch(self, due: int, created: int) -> None:
        """Count a batch of users; those without a new profile got one elsewhere meanwhile."""
        self.scanned += due
        self.created += created
        self.existing += due - created
        self.total = max(self.total, self.scanned)

    def add_refused(self, due: int) -> None:
        """Count users that the rules create no profile for."""
        self.scanned += due
        self.total = max(self.total, self.scanned)

    def add_to_sample(self, user_id: int, outcome: Outcome) -> None:
        """Add a user to the sample unless it is full."""
        if len(self.sample) < SAMPLE_SIZE:
            self.sample.append({"user_id": user_id, "outcome": str(outcome)})


@dataclass(frozen=True, slots=True)
class SweepExecutor:
    """Links and creates profiles, and counts the results.

    `ensure_user` ensures one user in a transaction of its own and records a failure. `report`
    writes progress inside a batch's transaction and raises LeaseLostError. `on_batch` receives the
    number of profiles that a batch created, `on_link` each link of a group and its seconds by
    `monotonic`. A batch that fails with a transient error is retried for `retry_seconds`.
    """

    transaction: Transaction
    ensure_user: Callable[[str], EnsureResult]
    rules: Rules
    counts: SweepCounts
    report: Callable[[Session, SweepCounts], None]
    on_batch: Callable[[int], None]
    on_link: Callable[[Link, float], None]
    monotonic: Callable[[], float]
    retry_seconds: float = RETRY_SECONDS

    def ensure_one(self, clerk_id: str) -> None:
        """Ensure one user; a failure of this user is counted and does not stop the sweep."""
        try:
            result = self.ensure_user(clerk_id)
        except DatabaseUnavailableError:
            raise  # it concerns all users
        except ProvisioningError:
            self.counts.add(None)
        else:
            self.counts.add(result.outcome, is_ambiguous=result.is_ambiguous)

    def refresh_identity(
        self, refresh: Callable[[str], EnsureResult | None], clerk_id: str
    ) -> None:
        """Refresh one user, who has a profile already; counted only if the profile changes.

        Raises IdentityUnavailableError if the identity provider does not answer.
        """
        try:
            result = refresh(clerk_id)
        except (DatabaseUnavailableError, IdentityUnavailableError):
            raise
        except ProvisioningError:
            return  # recorded as a failed attempt, which a later sweep retries
        if result and result.outcome in CHANGES:
            self.counts.add(result.outcome, is_ambiguous=result.is_ambiguous)

    def link_group(self, clerk_ids: Sequence[str]) -> None:
        """Link the users of a group who need a link only; later steps find the others."""
        started = self.monotonic()
        try:
            linked = self._link(clerk_ids)
        except SQLAlchemyError as err:
            log.warning("sweep_group_split", users=len(clerk_ids), reason=type(err).__name__)
            if len(clerk_ids) > 1 and not is_outage(err):
                middle = len(clerk_ids) // 2
                self.link_group(clerk_ids[:middle])
                self.link_group(clerk_ids[middle:])
            return
        seconds = self.monotonic() - started
        for link in linked:
            self.on_link(link, seconds)

    def _link(self, clerk_ids: Sequence[str]) -> list[Link]:
        updated = replace(self.counts)
        with self.transaction() as session:
            linked = link_group(session, clerk_ids, self.rules)
            for _ in linked:
                updated.add(Outcome.LINKED)
            self.report(session, updated)
        self.counts.replace_with(updated)
        return linked

    def create_range(self, ids: Range) -> None:
        """Create the profiles of a range in one statement; on conflict again, with row locks."""
        try:
            self._create_batch(ids, _create_without_locks)
        except (SQLAlchemyError, ContendedError) as err:
            log.info("sweep_batch_contended", after_id=ids[0], reason=type(err).__name__)
            self._create_with_locks(ids)

    def _create_with_locks(self, ids: Range) -> None:
        """Create a range, skipping locked rows; halve it if a row fails for good."""
        try:
            retry_transient(
                lambda: self._create_batch(ids, batches.create_range_with_locks),
                seconds_left=lambda: self.retry_seconds,
                on_retry=lambda reason: log.warning("sweep_batch_retried", reason=reason),
            )
        except SQLAlchemyError as err:
            if is_outage(err):
                raise
            log.warning("sweep_batch_split", after_id=ids[0], last_id=ids[1])
            self._bisect(ids)

    def _create_batch(self, ids: Range, create: Callable[[Session, Range], RangeResult]) -> None:
        """Create a batch and write its progress, in one transaction."""
        updated = replace(self.counts)
        with self.transaction() as session:
            if may_create_profiles(session, self.rules):
                updated.add_batch(*create(session, ids))
            else:
                updated.add_refused(missing_users.count_range(session, ids))
            self.report(session, updated)
        self.on_batch(updated.created - self.counts.created)
        self.counts.replace_with(updated)

    def _bisect(self, ids: Range) -> None:
        """Create both halves of a range; a single user is ensured alone."""
        low, high = ids
        if high - low > 1:
            middle = (low + high) // 2
            self._create_with_locks((low, middle))
            self._create_with_locks((middle, high))
            return
        with self.transaction() as session:
            remaining = missing_users.clerk_ids(session, ids)
        for clerk_id in remaining:
            self.ensure_one(clerk_id)


def _create_without_locks(session: Session, ids: Range) -> RangeResult:
    created = batches.create_range(session, ids)
    return created, created


@dataclass(frozen=True, slots=True)
class DryRunExecutor:
    """Counts the outcomes that a real sweep would have, and keeps a sample; writes nothing."""

    transaction: Transaction
    rules: Rules
    counts: SweepCounts

    def ensure_one(self, clerk_id: str) -> None:
        """Count the decision of `ensure`; a user known from a failed attempt only is created."""
        with self.transaction() as session:
            try:
                forecast = forecast_decision(session, clerk_id, self.rules)
            except NoResultFound:
                self.counts.add(Outcome.CREATED)
                return
        outcome = OUTCOMES[forecast.decision.action]
        self.counts.add(outcome, is_ambiguous=forecast.facts.is_ambiguous)
        self.counts.add_to_sample(forecast.user_id, outcome)

    def create_range(self, ids: Range) -> None:
        """Count the users of a range who would get a profile by the set-based step."""
        with self.transaction() as session:
            due = missing_users.count_range(session, ids)
            if not may_create_profiles(session, self.rules):
                self.counts.add_refused(due)
                return
            first = missing_users.first_in_range(session, ids, SAMPLE_SIZE)
        self.counts.add_batch(due, due)
        for user_id in first:
            self.counts.add_to_sample(user_id, Outcome.CREATED)


@dataclass(slots=True)
class IdentityCompletion:
    """Refreshes one identity after the other, until the provider does not answer.

    `note_unanswered` moves a user behind the others for the next run. `stopped_by` is the reason
    why some were left out.
    """

    note_unanswered: Callable[[str], None]
    stopped_by: str | None = None
    _failures: int = 0

    def steps(self, clerk_ids: Iterable[str], refresh: Callable[[str], None]) -> Iterator[Step]:
        """Yield one step for each user, until the provider does not answer.

        `refresh` then raises IdentityUnavailableError.
        """
        for clerk_id in () if self.stopped_by else clerk_ids:
            yield partial(self._refresh, clerk_id, refresh)
            if self.stopped_by is not None:
                return

    def _refresh(self, clerk_id: str, refresh: Callable[[str], None]) -> None:
        try:
            refresh(clerk_id)
        except IdentityUnavailableError as err:
            self._record_failure(clerk_id, err)
        else:
            self._failures = 0

    def _record_failure(self, clerk_id: str, err: IdentityUnavailableError) -> None:
        must_wait = err.wait_seconds is not None
        if not must_wait:
            self.note_unanswered(clerk_id)
            self._failures += 1
        if must_wait or self._failures == FAILURES_IN_A_ROW:
            self.stopped_by = str(err)
