"""The one way from every door to the guarantee: knowledge, patience, transaction, log, cache."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from typing import TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from auth.errors import ProviderUnavailableError, UnusableAnswerError
from auth.identity import Identity
from auth.user_directory import UserDirectory
from core import metrics
from core.database import transaction
from core.single_flight import FreshSingleFlight
from models.provisioning_attempt import UNUSABLE_ANSWER
from provisioning import queries, webhook_messages
from provisioning.account_deletion import handle_account_deletion
from provisioning.attempts import Failure
from provisioning.audit import Source
from provisioning.context import RequestContext, context_from_result
from provisioning.context_cache import ContextCache
from provisioning.ensure import CHANGES, EnsureResult, Outcome, ensure, recover_lost_commit
from provisioning.errors import (
    DatabaseUnavailableError,
    IdentityUnavailableError,
    NeedsAttentionError,
    ProvisioningError,
    ProvisioningUnavailableError,
    UnusableIdentityError,
)
from provisioning.identity_refresh import IdentityLookup, LookupResult
from provisioning.profiles import UserRow
from provisioning.retry import RetryingUnitOfWork
from provisioning.rules import Rules

log = structlog.get_logger(__name__)

Result = TypeVar("Result", EnsureResult, "EnsureResult | None")


def observe_ensure(door: str, started: float, ensuring: Callable[[], Result]) -> Result:
    """Do the ensuring and tell how it went; nothing is told of what came to nothing.

    `started` is when the person began to wait, on the monotonic clock. Raises what the ensuring
    raises.
    """
    try:
        ensured = ensuring()
    except ProvisioningError:
        _count(door, "failed", started)
        raise
    if ensured is not None:
        _count(door, _label(ensured), started)
        _log_change(ensured, door, started)
    return ensured


def _count(door: str, outcome: str, started: float) -> None:
    metrics.ENSURES.labels(door, outcome).inc()
    metrics.ENSURE_SECONDS.labels(door, outcome).observe(time.monotonic() - started)


def _label(ensured: EnsureResult) -> str:
    """One word for each person: whoever got a profile while others waited for them is a case of its
    own, and an admin without one is as it should be.
    """
    if ensured.is_ambiguous:
        return "ambiguous"
    return Outcome.EXISTING if ensured.outcome is Outcome.ADMIN else ensured.outcome


def _log_change(ensured: EnsureResult, door: str, started: float) -> None:
    if ensured.outcome not in CHANGES or ensured.mentorado is None:
        return
    facts = {
        "user_id": ensured.user.id,
        "mentorado_id": ensured.mentorado.id,
        "entry": door,
        "duration_ms": round((time.monotonic() - started) * 1000, 1),
    }
    log.info(f"mentorado_{ensured.outcome}", **facts)
    if ensured.is_ambiguous:
        log.warning("mentorado_link_ambiguous", **facts)


RECORD_USER_SECONDS = 0.2  # beside the record of the failure, and still within the request

Message = tuple[str, str]  # its id and what it is about
WorkResult = TypeVar("WorkResult")


@dataclass(frozen=True, slots=True)
class ProvisioningService:
    """Makes sure of profiles under the operator's rules; one for an app, shared by its threads.

    Every method raises what `Perseverance.see_through` raises.
    """

    rules: Rules
    contexts: ContextCache
    unit_of_work: RetryingUnitOfWork = field(default_factory=RetryingUnitOfWork)
    directory: UserDirectory | None = field(default=None, repr=False)
    max_age: timedelta = timedelta(days=1)
    single_flight: FreshSingleFlight[RequestContext] = field(
        default_factory=FreshSingleFlight, repr=False
    )

    @property
    def lookup(self) -> IdentityLookup:
        """What asks the identity provider during a request."""
        return IdentityLookup(self.directory, self.max_age)

    def context_for(
        self, identity: Identity, *, source: Source, now: datetime, is_fresh: bool = False
    ) -> RequestContext:
        """Ensure the user's profile and return the context of their request.

        `is_fresh` says that the request asked for an invalidation of the cached context.
        Simultaneous requests of one user share one call, and only one of them gets `created`.
        """
        started = time.monotonic()  # waiting for the call before ours counts as well

        def ask() -> RequestContext:
            read_at = self.contexts.clock()
            found = self.lookup.complete_identity(identity, now)
            ensured = self._ensure(found, source, now, started)
            return self._update_cache(identity, ensured, read_at, is_fresh=is_fresh)

        context, is_ours = self.single_flight.run((identity, is_fresh), ask)
        return (
            context
            if is_ours
            else replace(context, outcome=_outcome_for_followers(context.outcome))
        )

    def ensure(self, identity: Identity, *, source: Source, now: datetime) -> EnsureResult:
        """Ensure somebody who is not there in person; their next request finds the result."""
        ensured = self._ensure(LookupResult(identity), source, now, time.monotonic())
        if ensured.outcome in CHANGES or ensured.denial:
            self._publish(ensured.user)
        return ensured

    def refresh_from_clerk(
        self, clerk_id: str, *, source: Source, now: datetime
    ) -> EnsureResult | None:
        """Ask the provider about a user and ensure the profile with what it tells.

        Returns None where it knows no user of that id. Raises IdentityUnavailableError as well,
        where it cannot be asked, and UnusableIdentityError, with an attempt on record, where its
        answer about this user cannot be used.
        """
        try:
            identity = self._enrich(clerk_id)
        except UnusableAnswerError as err:
            self.unit_of_work.record(clerk_id, Failure(UNUSABLE_ANSWER, err.code), source, now)
            raise UnusableIdentityError(str(err)) from err
        return self._apply(identity, source, now)

    def refresh(self, clerk_id: str, *, source: Source, now: datetime) -> EnsureResult | None:
        """As `complete`, of a user whose identity is complete but old.

        An answer that cannot be used takes nothing away and is no failed attempt; None as well.
        """
        try:
            identity = self._enrich(clerk_id)
        except UnusableAnswerError:
            self._run(
                lambda s: queries.mark_identity_asked(s, clerk_id, now), clerk_id, source, now
            )
            return None
        return self._apply(identity, source, now)

    def refresh_if_due(self, clerk_id: str, *, source: Source, now: datetime) -> None:
        """Ask about a user who visits, unless another process has just done so.

        The next request reads anew, whatever came of it. Raises as `refresh` does.
        """
        try:
            if self.lookup.claimed_in_background(clerk_id, now):
                self.refresh(clerk_id, source=source, now=now)
        finally:
            self.contexts.drop(clerk_id)

    def _enrich(self, clerk_id: str) -> Identity:
        if self.directory is None:
            raise IdentityUnavailableError("there is no provider to ask")
        try:
            return self.directory.look_up(clerk_id, is_background=True)
        except ProviderUnavailableError as err:
            raise IdentityUnavailableError(str(err), err.wait_seconds) from err

    def _apply(self, identity: Identity, source: Source, now: datetime) -> EnsureResult | None:
        """Ensure the profile with the provider's answer; None where it knows no such user."""
        if not identity.is_unknown:
            return self.apply_identity(identity, source=source, now=now)
        ids = [identity.clerk_id]
        self._run(lambda s: queries.mark_identity_unchanged(s, ids, now), ids[0], source, now)
        return None

    def apply_identity(self, identity: Identity, *, source: Source, now: datetime) -> EnsureResult:
        """Ensure somebody of whom the provider has told everything; it may have changed a lot."""
        ensured = self._ensure(LookupResult(identity), source, now, time.monotonic())
        self._publish(ensured.user)
        return ensured

    def handle_user_event(
        self, message: Message, identity: Identity, *, source: Source, now: datetime
    ) -> bool:
        """Take the word of a message; returns whether it was not heard before."""
        started = time.monotonic()

        def work(session: Session) -> EnsureResult | None:
            if not webhook_messages.is_new(session, *message):
                return None
            if not identity.is_complete:
                queries.mark_identity_incomplete(session, identity.clerk_id)
            return ensure(session, identity, source=source, now=now, rules=self.rules)

        def hear() -> EnsureResult | None:
            return self._run(work, identity.clerk_id, source, now)

        ensured = observe_ensure(source.channel, started, hear)
        # Also for a message that was known: an earlier try may have committed, its answer lost.
        self.contexts.publish([identity.clerk_id])
        return ensured is not None

    def handle_user_deleted(
        self, message: Message, identity: Identity, *, source: Source, now: datetime
    ) -> bool:
        """Let somebody go whose account is deleted; returns whether it was not heard before."""

        def work(session: Session) -> list[str] | None:
            if not webhook_messages.is_new(session, *message):
                return None
            return handle_account_deletion(session, identity.clerk_id, source=source, now=now)

        changed = self._run(work, identity.clerk_id, source, now)
        self.contexts.publish([identity.clerk_id, *(changed or ())])  # as above
        return changed is not None

    def _publish(self, user: UserRow) -> None:
        self.contexts.publish_versions({user.clerk_id: user.context_version})

    def _run(
        self, work: Callable[[Session], WorkResult], clerk_id: str, source: Source, now: datetime
    ) -> WorkResult:
        return self.unit_of_work.run(
            work, clerk_id, source=source, now=now, started=time.monotonic()
        )

    def _ensure(
        self, found: LookupResult, source: Source, now: datetime, started: float
    ) -> EnsureResult:
        identity, tries = found.identity, count()

        def work(session: Session) -> EnsureResult:
            ensured = self._ensure_once(session, found, source, now)
            return recover_lost_commit(session, ensured, source) if next(tries) else ensured

        def see_through() -> EnsureResult:
            return self.unit_of_work.run(
                work, identity.clerk_id, source=source, now=now, started=started
            )

        try:
            return observe_ensure(source.channel, started, see_through)
        except DatabaseUnavailableError:
            raise  # there is nothing to write to either
        except (ProvisioningUnavailableError, NeedsAttentionError):
            _record_user(identity, now)
            raise

    def _ensure_once(
        self, session: Session, found: LookupResult, source: Source, now: datetime
    ) -> EnsureResult:
        """Ensure the profile and note a question that the provider did not answer."""
        clerk_id = found.identity.clerk_id
        if found.is_unavailable:
            queries.mark_identity_incomplete(session, clerk_id)
        ensured = ensure(session, found.identity, source=source, now=now, rules=self.rules)
        if not found.is_unanswered:
            return ensured
        queries.mark_identity_asked(session, clerk_id, now)
        return replace(ensured, user=replace(ensured.user, identity_asked_at=now))

    def _update_cache(
        self, identity: Identity, ensured: EnsureResult, read_at: float, *, is_fresh: bool
    ) -> RequestContext:
        """Store the context of a profile; after a change or a denial older entries end."""
        if is_fresh or ensured.outcome in CHANGES or ensured.denial:
            log.info("session_invalidated", user_id=ensured.user.id)
        question = self.lookup.question(identity, ensured.user)
        context = replace(context_from_result(ensured), question=question)
        self.contexts.put(identity, context, read_at)
        return context


def _record_user(identity: Identity, now: datetime) -> None:
    """What failed was rolled back, the person with it; support shall find them all the same."""
    try:
        with transaction(RECORD_USER_SECONDS) as session:
            queries.record_user(session, identity, now)
    except SQLAlchemyError as err:
        log.warning("person_not_introduced", error=type(err).__name__)


def _outcome_for_followers(outcome: str) -> str:
    return Outcome.EXISTING if outcome in CHANGES else outcome
