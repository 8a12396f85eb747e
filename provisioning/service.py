"""The application service that every page, API call, webhook, sweep and command uses.

A request goes through `ProvisioningService.context_for`:

1. Single flight: simultaneous requests of one user share one call.
2. Complete the identity with the identity provider's answer, where that is due.
3. Ensure the profile in one transaction, retried for transient errors, with metrics and a log line.
4. Update the cached context and return it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Literal, TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from auth.clerk_calls import UserDirectory
from auth.errors import ProviderUnavailableError, UnusableAnswerError
from auth.identity import Identity
from core import metrics
from core.database import background_transaction, transaction
from core.single_flight import FreshSingleFlight
from models.background import UNUSABLE_ANSWER
from provisioning import identity_lookups
from provisioning.attempts import Failure
from provisioning.audit import Source
from provisioning.clerk_messages import (
    RetentionPolicy,
    expired_accounts,
    handle_account_deletion,
    is_new_message,
)
from provisioning.context import RequestContext, context_from_result
from provisioning.context_cache import ContextCache
from provisioning.ensure import CHANGES, EnsureResult, Outcome, ensure, recover_lost_commit
from provisioning.erasure import erase_person
from provisioning.errors import (
    ConflictError,
    DatabaseUnavailableError,
    IdentityUnavailableError,
    NeedsAttentionError,
    ProvisioningError,
    ProvisioningUnavailableError,
    UnknownUserError,
    UnusableIdentityError,
)
from provisioning.identity_lookups import LookupResult, complete_identity, next_lookup
from provisioning.personal_data import find_person
from provisioning.retry import RetryingUnitOfWork
from provisioning.rules import Rules

log = structlog.get_logger(__name__)

RECORD_USER_SECONDS = 0.2  # after the failure was recorded, and still within the request

Message = tuple[str, str]  # the id of a webhook message and the name of its event
Result = TypeVar("Result", EnsureResult, "EnsureResult | None")


@dataclass(frozen=True, slots=True)
class ProvisioningService:
    """Ensures profiles under the operator's rules; one for an app, shared by its threads.

    Every method raises what `RetryingUnitOfWork.run` raises.
    """

    rules: Rules
    contexts: ContextCache
    unit_of_work: RetryingUnitOfWork = field(default_factory=RetryingUnitOfWork)
    directory: UserDirectory | None = field(default=None, repr=False)
    max_age: timedelta = timedelta(days=1)
    retention: RetentionPolicy = field(default_factory=RetentionPolicy)
    single_flight: FreshSingleFlight[RequestContext] = field(
        default_factory=FreshSingleFlight, repr=False
    )

    def context_for(
        self,
        identity: Identity,
        *,
        source: Source,
        now: datetime,
        skips_cache: bool = False,
        received_at: float | None = None,
    ) -> RequestContext:
        """Ensure the user's profile and return the context of their request.

        `skips_cache`: the request asks for a new ensure call, so that the cached context ends.
        `received_at` is when this process received the request, on the monotonic clock.
        Simultaneous requests of one user share one call, and only one of them gets `created`.
        """
        started = time.monotonic()  # the wait for an earlier call counts as well
        context, is_leader = self.single_flight.run(
            (identity, skips_cache),
            partial(self._ensured_context, identity, source, now, started, skips_cache=skips_cache),
            received_at=received_at,
        )
        if not is_leader and context.outcome in CHANGES:
            return replace(context, outcome=Outcome.EXISTING)
        return context

    def _ensured_context(
        self,
        identity: Identity,
        source: Source,
        now: datetime,
        started: float,
        *,
        skips_cache: bool,
    ) -> RequestContext:
        """Complete the identity, ensure the profile, and store its context in the cache.

        After a change or a denial, older entries of the cache end.
        """
        read_at, answer = self.contexts.clock(), LookupResult(identity)
        directory = None if identity.is_complete else self.directory
        if directory is not None:
            answer = complete_identity(directory, identity, now, self.max_age)
        result = self._ensure(answer, source, now, started)
        if skips_cache or result.outcome in CHANGES or result.denial:
            log.info("session_invalidated", user_id=result.user.id)
        context = context_from_result(result)
        if directory is not None:
            context = replace(context, next_lookup=next_lookup(result.user, self.max_age))
        self.contexts.put(identity, context, read_at)
        return context

    def ensure(self, identity: Identity, *, source: Source, now: datetime) -> EnsureResult:
        """Ensure the profile of a user outside a request of theirs.

        The context version is published after a change or a denial, and where the identity is a
        complete answer of the provider.
        """
        result = self._ensure(LookupResult(identity), source, now, time.monotonic())
        if identity.is_complete or result.outcome in CHANGES or result.denial:
            user = result.user
            log.info("session_invalidated", user_id=user.id, clerk_id=user.clerk_id)
            self.contexts.publish_versions({user.clerk_id: user.context_version})
        return result

    def complete_from_clerk(
        self, clerk_id: str, *, source: Source, now: datetime, is_refresh: bool = False
    ) -> EnsureResult | None:
        """Ask the provider about a user and ensure the profile with its answer.

        Returns None where the provider has no user of that id. Also raises
        IdentityUnavailableError, where it cannot be asked, and UnusableIdentityError, where its
        answer about this user cannot be used. The latter records a failed attempt.

        `is_refresh` is for a user whose identity is complete but old: an unusable answer changes
        nothing, records no failed attempt, and returns None as well.
        """
        if self.directory is None:
            raise IdentityUnavailableError("no identity provider is configured")
        run = partial(self.unit_of_work.run, clerk_id=clerk_id, source=source, now=now)
        try:
            identity = self.directory.look_up(clerk_id, is_background=True)
        except ProviderUnavailableError as err:
            raise IdentityUnavailableError(str(err), err.wait_seconds) from err
        except UnusableAnswerError as err:
            if is_refresh:
                run(lambda s: identity_lookups.mark_identity_asked(s, clerk_id, now))
                return None
            failure = Failure(UNUSABLE_ANSWER, err.code)
            self.unit_of_work.record_attempt(clerk_id, failure, source, now)
            raise UnusableIdentityError(str(err)) from err
        if not identity.is_unknown:
            return self.ensure(identity, source=source, now=now)
        run(lambda s: identity_lookups.mark_identity_unchanged(s, [clerk_id], now))
        return None

    def refresh_visitor_if_due(self, clerk_id: str, *, source: Source, now: datetime) -> None:
        """Refresh a user who visits, unless another process has just done so.

        The next request reads from the database in any case. Raises as `complete_from_clerk` does.
        """
        try:
            with background_transaction() as session:
                user = identity_lookups.known_identity(session, clerk_id)
                is_claimed = user is not None and identity_lookups.claim_lookup_if_due(
                    session, user, now, self.max_age
                )
            if is_claimed:
                self.complete_from_clerk(clerk_id, source=source, now=now, is_refresh=True)
        finally:
            self.contexts.drop(clerk_id)

    def handle_user_event(
        self, message: Message, identity: Identity, *, source: Source, now: datetime
    ) -> bool:
        """Ensure the profile with the identity of a webhook message, once for each message.

        Returns False for a message that was handled before.
        """

        def work(session: Session) -> EnsureResult | None:
            if not is_new_message(session, *message):
                return None
            if not identity.is_complete:
                identity_lookups.mark_identity_incomplete(session, identity.clerk_id)
            return ensure(session, identity, source=source, now=now, rules=self.rules)

        result = self._run_measured(work, identity.clerk_id, source, now, time.monotonic())
        # Also for a message that is not new: the commit of an earlier try may have succeeded
        # although its answer was lost.
        self.contexts.publish([identity.clerk_id])
        return result is not None

    def handle_user_deleted(
        self, message: Message, identity: Identity, *, source: Source, now: datetime
    ) -> bool:
        """Apply the deletion of a Clerk account, once for each webhook message.

        Returns False for a message that was handled before.
        """

        def work(session: Session) -> list[str] | None:
            if not is_new_message(session, *message):
                return None
            return handle_account_deletion(session, identity.clerk_id, source=source, now=now)

        changed_ids = self.unit_of_work.run(work, identity.clerk_id, source=source, now=now)
        self.contexts.publish([identity.clerk_id, *(changed_ids or ())])  # as above
        return changed_ids is not None

    def erase_account(self, user_id: int, *, source: Source, now: datetime) -> bool:
        """Erase the person of an account in the background, if its retention has ended.

        Returns whether it was erased: not while rows of another program prevent that.
        """
        try:
            with background_transaction() as session:
                person = find_person(session, user_id, lock=True)
                if user_id not in expired_accounts(session, self.retention, now):
                    return False
                erasure = erase_person(session, person, source=source)
        except UnknownUserError:
            return False
        except ConflictError as err:
            log.warning("person_not_erased", user_id=user_id, error=str(err))
            return False
        if erasure.clerk_id is not None:
            self.contexts.erase(erasure.clerk_id)
        log.info("person_erased", user_id=user_id, entry=source.channel)
        return True

    def _ensure(
        self, answer: LookupResult, source: Source, now: datetime, started: float
    ) -> EnsureResult:
        """Ensure the profile in a retried transaction; store the user even if that fails.

        A lookup that the provider did not answer is marked for the sweep.
        """
        identity, clerk_id = answer.identity, answer.identity.clerk_id
        was_committing = False  # whether an earlier try has reached its commit

        def work(session: Session) -> EnsureResult:
            nonlocal was_committing
            if answer.is_unavailable:
                identity_lookups.mark_identity_incomplete(session, clerk_id)
            result = ensure(session, identity, source=source, now=now, rules=self.rules)
            if answer.is_unanswered:
                identity_lookups.mark_identity_asked(session, clerk_id, now)
                result = replace(result, user=replace(result.user, identity_asked_at=now))
            if was_committing:
                result = recover_lost_commit(session, result, source)
            was_committing = True
            return result

        try:
            return self._run_measured(work, clerk_id, source, now, started)
        except DatabaseUnavailableError:
            raise  # the user could not be stored either
        except (ProvisioningUnavailableError, NeedsAttentionError):
            # It was rolled back; support finds the user in the table.
            try:
                with transaction(RECORD_USER_SECONDS) as session:
                    identity_lookups.record_user(session, identity, now)
            except SQLAlchemyError as err:
                log.warning("user_not_recorded", error=type(err).__name__)
            raise

    def _run_measured(
        self,
        work: Callable[[Session], Result],
        clerk_id: str,
        source: Source,
        now: datetime,
        started: float,
    ) -> Result:
        """Run ensure work with retries; record metrics and a log line, once for all its tries.

        `started` is when the wait began, on the monotonic clock. Work that returns None records
        nothing.
        """
        try:
            result = self.unit_of_work.run(work, clerk_id, source=source, now=now, started=started)
        except ProvisioningError:
            _record("failed", source, time.monotonic() - started)
            raise
        if result is not None:
            _record(result, source, time.monotonic() - started)
        return result


def _record(result: EnsureResult | Literal["failed"], source: Source, seconds: float) -> None:
    """Record metrics of an ensure call, and log a change of the profile.

    An ambiguous match has a label of its own, `admin` counts as `existing`.
    """
    if isinstance(result, str):
        label: str = result
    elif result.is_ambiguous:
        label = "ambiguous"
    else:
        label = Outcome.EXISTING if result.outcome is Outcome.ADMIN else result.outcome
    metrics.ENSURES.labels(source.channel, label).inc()
    metrics.ENSURE_SECONDS.labels(source.channel, label).observe(seconds)
    if isinstance(result, str) or result.outcome not in CHANGES or result.mentorado is None:
        return
    fields = {
        "user_id": result.user.id,
        "mentorado_id": result.mentorado.id,
        "entry": source.channel,
        "duration_ms": round(seconds * 1000, 1),
    }
    log.info(f"mentorado_{result.outcome}", **fields)
    if result.is_ambiguous:
        log.warning("mentorado_link_ambiguous", **fields)
