"""Carry out the work of a sweep: link groups, create ranges, or ensure users one by one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog
from sqlalchemy.exc import NoResultFound, SQLAlchemyError
from sqlalchemy.orm import Session

from core.database import Transaction
from provisioning.auto_create import may_create
from provisioning.ensure import CHANGES, EnsureResult, Outcome, forecast_decision
from provisioning.errors import (
    DatabaseUnavailableError,
    IdentityUnavailableError,
    ProvisioningError,
)
from provisioning.retry import is_outage, retry_transient
from provisioning.rules import Action, Rules
from sweep import batches, missing_profiles
from sweep.batches import ContendedError, Link, link_group
from sweep.missing_profiles import Range
from sweep.progress import SAMPLE_SIZE, SweepCounts

log = structlog.get_logger(__name__)

RangeResult = tuple[int, int]  # users that were due, and how many of them got a profile
RETRY_SECONDS = 3.0


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
                lambda: self._create_batch(ids, missing_profiles.create_range_with_locks),
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
            if may_create(session, self.rules):
                updated.add_batch(*create(session, ids))
            else:
                updated.add_refused(missing_profiles.count_range(session, ids))
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
            remaining = missing_profiles.clerk_ids(session, ids)
        for clerk_id in remaining:
            self.ensure_one(clerk_id)


def _create_without_locks(session: Session, ids: Range) -> RangeResult:
    created = batches.create_range(session, ids)
    return created, created


OUTCOMES = {
    Action.KEEP: Outcome.EXISTING,
    Action.CLAIM: Outcome.CLAIMED,
    Action.LINK: Outcome.LINKED,
    Action.CREATE: Outcome.CREATED,
    Action.EXEMPT: Outcome.ADMIN,
    Action.DENY: Outcome.DENIED,
}


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
        """Count the users of a range for whom the set-based step would create a profile."""
        with self.transaction() as session:
            due = missing_profiles.count_range(session, ids)
            if not may_create(session, self.rules):
                self.counts.add_refused(due)
                return
            first = missing_profiles.first_in_range(session, ids, SAMPLE_SIZE)
        self.counts.add_batch(due, due)
        for user_id in first:
            self.counts.add_to_sample(user_id, Outcome.CREATED)
