"""The one way from every door to the guarantee: patience, transaction, log, cache."""

import random
import time
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog
from sqlalchemy.exc import SQLAlchemyError

import metrics
from context_cache import ContextCache
from extensions import transaction
from flights import Flights
from models import ProvisioningAttempt
from models.provisioning_attempt import AttemptState
from outage import Outage
from provisioning.attempts import Failure, RetryPolicy, record_failure
from provisioning.audit import Entry
from provisioning.ensure import Ensured, Outcome, ensure
from provisioning.errors import (
    DatabaseUnavailableError,
    NeedsAttentionError,
    ProvisioningError,
    ProvisioningUnavailableError,
    StaleDecisionError,
)
from provisioning.identity import Identity
from provisioning.linking import Rules
from provisioning.retry import is_connection_lost, is_unavailable, patiently
from session_context import Context, context_of

log = structlog.get_logger(__name__)

REQUEST_BUDGET_SECONDS = 1.2  # the answer comes within two seconds, whatever is slow
SHORTEST_TRY_SECONDS = 0.2
LONGEST_TRY_SECONDS = 0.45  # with its grace half of the budget, so that there is time for another
CHANGES = {Outcome.CREATED, Outcome.LINKED, Outcome.CLAIMED}


@dataclass(frozen=True, slots=True)
class Guarantee:
    """Makes sure of profiles under the operator's rules; one for an app, shared by its threads."""

    rules: Rules
    contexts: ContextCache
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    outage: Outage = field(default_factory=Outage, repr=False)
    flights: Flights[Context] = field(default_factory=Flights, repr=False)

    def provide(
        self, identity: Identity, *, entry: Entry, now: datetime, generation: int | None = None
    ) -> Context:
        """Ensure the person's profile and return the context of their request.

        `generation` is the cache's, looked up before this call; with none the person's cached
        context is invalidated in any case. Simultaneous requests of one person share one way to the
        database, and only one of them is told `created`. Raises ProvisioningUnavailableError when
        it could not be done just now and the background goes on trying, NeedsAttentionError when
        that has given up as well, DatabaseUnavailableError when there was no database to ask.
        """
        started = time.monotonic()  # waiting for the flight before ours counts as well

        def ask() -> Context:
            before = generation or self.contexts.generations.of(identity.clerk_id)
            ensured = self._ensure(identity, entry, now, started)
            return self._remember(identity, ensured, before, is_fresh=generation is None)

        context, is_ours = self.flights.share((identity, generation is None), ask)
        return context if is_ours else replace(context, outcome=_told_to_others(context.outcome))

    def ensure(self, identity: Identity, *, entry: Entry, now: datetime) -> Ensured:
        """Ensure somebody who is not there in person; their next request finds the result.

        Raises as `provide` does.
        """
        ensured = self._ensure(identity, entry, now, time.monotonic())
        if ensured.outcome in CHANGES:
            self.contexts.renew(identity.clerk_id)
        return ensured

    def _ensure(self, identity: Identity, entry: Entry, now: datetime, started: float) -> Ensured:
        """Run `ensure` in a transaction of its own, again while its error can pass; then log."""

        def attempt() -> Ensured:
            timeout = max(SHORTEST_TRY_SECONDS, min(LONGEST_TRY_SECONDS, _time_left(started)))
            with transaction(timeout) as session:
                return ensure(session, identity, entry=entry, now=now, rules=self.rules)

        try:
            ensured = patiently(
                attempt, budget_seconds=self._patience_seconds(started), on_retry=_log_retry
            )
        except (SQLAlchemyError, StaleDecisionError) as err:
            raise self._give_up(err, identity.clerk_id, entry, now) from err
        _log_change(ensured, entry, started)
        return ensured

    def _patience_seconds(self, started: float) -> float:
        """How long to try again: the last try still fits into the budget.

        An outage's first seconds are worth waiting for; whoever comes into a longer one is told so
        at once, or all threads would be waiting and the next answer would come too late.
        """
        gone = max(time.monotonic() - started, self.outage.seconds)
        return max(0.0, REQUEST_BUDGET_SECONDS - SHORTEST_TRY_SECONDS - gone)

    def _give_up(
        self, err: Exception, clerk_id: str, entry: Entry, now: datetime
    ) -> ProvisioningError:
        """Leave a durable trace, and say in the domain's words what the database's error means."""
        failure = Failure(type(err).__name__, getattr(getattr(err, "orig", None), "pgcode", None))
        attempt = None if is_connection_lost(err) else self._record(clerk_id, failure, entry, now)
        log.error(
            "mentorado_creation_failed",
            error=failure.error_class,
            sqlstate=failure.error_code,
            attempt=attempt.attempts if attempt else None,
            retryable=is_unavailable(err),
            entry=entry.door,
        )
        if is_connection_lost(err):
            return DatabaseUnavailableError("the database did not answer")
        if attempt and attempt.state == AttemptState.DEAD:
            return NeedsAttentionError("the background has given up")
        return ProvisioningUnavailableError("not just now")

    def _record(
        self, clerk_id: str, failure: Failure, entry: Entry, now: datetime
    ) -> ProvisioningAttempt | None:
        dice = random.random()  # noqa: S311 - it spreads retries
        try:
            with transaction(SHORTEST_TRY_SECONDS) as session:
                attempt = record_failure(
                    session,
                    clerk_id,
                    failure,
                    entry=entry,
                    now=now,
                    policy=self.policy,
                    dice=dice,
                )
        except SQLAlchemyError as err:
            log.warning("attempt_not_recorded", error=type(err).__name__)
            return None
        if attempt.attempts == self.policy.max_attempts and entry.is_background:
            log.error("provisioning_dead_letter", attempt_id=attempt.id, attempts=attempt.attempts)
        return attempt

    def _remember(
        self, identity: Identity, ensured: Ensured, before: int | None, *, is_fresh: bool
    ) -> Context:
        """Bring the cache in line with what is committed now.

        Somebody who is denied may have been shut out by a process whose cache we do not share.
        """
        generation = before
        if is_fresh or ensured.outcome in CHANGES or ensured.denial:
            generation = self.contexts.generations.move_on(identity.clerk_id, since=before)
            log.info("session_invalidated", user_id=ensured.user.id)
        context = replace(context_of(ensured), generation=generation)
        self.contexts.keep(identity, context)
        return context


def _time_left(started: float) -> float:
    return REQUEST_BUDGET_SECONDS - (time.monotonic() - started)


def _told_to_others(outcome: str) -> str:
    return Outcome.EXISTING if outcome in CHANGES else outcome


def _log_retry(reason: str) -> None:
    metrics.ENSURE_RETRIES.labels(reason).inc()
    log.warning("mentorado_ensure_retried", reason=reason)


def _log_change(ensured: Ensured, entry: Entry, started: float) -> None:
    if ensured.outcome not in CHANGES or ensured.mentorado is None:
        return
    facts = {
        "user_id": ensured.user.id,
        "mentorado_id": ensured.mentorado.id,
        "entry": entry.door,
        "duration_ms": round((time.monotonic() - started) * 1000, 1),
    }
    log.info(f"mentorado_{ensured.outcome}", **facts)
    if ensured.is_ambiguous:
        log.warning("mentorado_link_ambiguous", **facts)
