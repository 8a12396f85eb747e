"""How the difference is closed: in batches and groups where that is plain, else one by one."""

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

Provided = tuple[int, int]  # how many were due, and how many of them got a profile
PATIENCE_SECONDS = 3.0  # for a batch whose error can pass


@dataclass(frozen=True, slots=True)
class SweepExecutor:
    """Provides for the people it is handed, and counts them.

    `provide` ensures one person in a transaction of its own and records a failure; `report` writes
    progress inside a batch's transaction and raises where the run is no longer ours. `on_batch`
    hears how many a batch has given a profile, `on_link` of each person who was linked in a group,
    and in how many seconds by `monotonic`.
    """

    transaction: Transaction
    provide: Callable[[str], EnsureResult]
    rules: Rules
    counts: SweepCounts
    report: Callable[[Session, SweepCounts], None]
    on_batch: Callable[[int], None]
    on_link: Callable[[Link, float], None]
    monotonic: Callable[[], float]

    def ensure_one(self, clerk_id: str) -> None:
        """Ensure one person; whoever cannot be helped now must not keep the others waiting."""
        try:
            ensured = self.provide(clerk_id)
        except DatabaseUnavailableError:
            raise  # nobody can be helped now
        except ProvisioningError:
            self.counts.add(None)
        else:
            self.counts.add(ensured.outcome, is_ambiguous=ensured.is_ambiguous)

    def refresh_identity(
        self, complete: Callable[[str], EnsureResult | None], clerk_id: str
    ) -> None:
        """Complete one user; counted only where it changed something, for they have a profile.

        Raises IdentityUnavailableError when no user can be asked about.
        """
        try:
            ensured = complete(clerk_id)
        except (DatabaseUnavailableError, IdentityUnavailableError):
            raise
        except ProvisioningError:
            return  # it is recorded, and the attempts will see to it
        if ensured and ensured.outcome in CHANGES:
            self.counts.add(ensured.outcome, is_ambiguous=ensured.is_ambiguous)

    def link_group(self, clerk_ids: Sequence[str]) -> None:
        """Link those of a group who need nothing else; the others are still there to be found."""
        started = self.monotonic()
        try:
            linked = self._link(clerk_ids)
        except SQLAlchemyError as err:
            log.warning("sweep_group_split", people=len(clerk_ids), reason=type(err).__name__)
            if len(clerk_ids) > 1 and not is_outage(err):
                middle = len(clerk_ids) // 2
                self.link_group(clerk_ids[:middle])
                self.link_group(clerk_ids[middle:])
            return
        seconds = self.monotonic() - started
        for link in linked:
            self.on_link(link, seconds)

    def _link(self, clerk_ids: Sequence[str]) -> list[Link]:
        ahead = replace(self.counts)
        with self.transaction() as session:
            linked = link_group(session, clerk_ids, self.rules)
            for _ in linked:
                ahead.add(Outcome.LINKED)
            self.report(session, ahead)
        self.counts.replace_with(ahead)
        return linked

    def create_range(self, people: Range) -> None:
        """Provide for a range in one statement; with care where anything gets in its way."""
        try:
            self._at_once(people, _create_without_locks)
        except (SQLAlchemyError, ContendedError) as err:
            log.info("sweep_batch_contended", after_id=people[0], reason=type(err).__name__)
            self._create_with_locks(people)

    def _create_with_locks(self, people: Range) -> None:
        """Pass over who is held and who was faster; where somebody is poisoned, find them."""
        try:
            retry_transient(
                lambda: self._at_once(people, missing_profiles.create_range_with_locks),
                seconds_left=lambda: PATIENCE_SECONDS,
                on_retry=lambda reason: log.warning("sweep_batch_retried", reason=reason),
            )
        except SQLAlchemyError as err:
            if is_outage(err):
                raise
            log.warning("sweep_batch_split", after_id=people[0], last_id=people[1])
            self._bisect(people)

    def _at_once(self, people: Range, provide: Callable[[Session, Range], Provided]) -> None:
        """The batch and the progress it means stand or fall together."""
        ahead = replace(self.counts)
        with self.transaction() as session:
            if may_create(session, self.rules):
                ahead.add_batch(*provide(session, people))
            else:
                ahead.add_refused(missing_profiles.count_range(session, people))
            self.report(session, ahead)
        self.on_batch(ahead.created - self.counts.created)
        self.counts.replace_with(ahead)

    def _bisect(self, people: Range) -> None:
        low, high = people
        if high - low > 1:
            middle = (low + high) // 2
            self._create_with_locks((low, middle))
            self._create_with_locks((middle, high))
            return
        with self.transaction() as session:
            alone = missing_profiles.clerk_ids(session, people)
        for clerk_id in alone:
            self.ensure_one(clerk_id)


def _create_without_locks(session: Session, people: Range) -> Provided:
    created = batches.create_range(session, people)
    return created, created


FORESEEN = {
    Action.KEEP: Outcome.EXISTING,
    Action.CLAIM: Outcome.CLAIMED,
    Action.LINK: Outcome.LINKED,
    Action.CREATE: Outcome.CREATED,
    Action.EXEMPT: Outcome.ADMIN,
    Action.DENY: Outcome.DENIED,
}


@dataclass(frozen=True, slots=True)
class DryRunExecutor:
    """Counts the people it is handed by what would happen to them, and keeps a sample."""

    transaction: Transaction
    rules: Rules
    counts: SweepCounts

    def ensure_one(self, clerk_id: str) -> None:
        """Count what `ensure` would decide; whom only a record knows would be created."""
        with self.transaction() as session:
            try:
                foreseen = forecast_decision(session, clerk_id, self.rules)
            except NoResultFound:
                self.counts.add(Outcome.CREATED)
                return
        outcome = FORESEEN[foreseen.decision.action]
        self.counts.add(outcome, is_ambiguous=foreseen.standing.is_ambiguous)
        self.counts.show(foreseen.user_id, outcome)

    def create_range(self, people: Range) -> None:
        """Count what the set-based step would do to a range of people."""
        with self.transaction() as session:
            due = missing_profiles.count_range(session, people)
            if not may_create(session, self.rules):
                self.counts.add_refused(due)
                return
            first = missing_profiles.first_in_range(session, people, SAMPLE_SIZE)
        self.counts.add_batch(due, due)
        for user_id in first:
            self.counts.show(user_id, Outcome.CREATED)
