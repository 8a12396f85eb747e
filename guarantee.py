"""The one way from every door to the guarantee: patience, transaction, log, cache."""

import time
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog
from sqlalchemy.exc import SQLAlchemyError

import metrics
from context_cache import ContextCache
from extensions import transaction
from flights import Flights
from outage import Outage
from provisioning.audit import Entry
from provisioning.ensure import Ensured, Outcome, ensure
from provisioning.errors import (
    DatabaseUnavailableError,
    ProvisioningError,
    ProvisioningUnavailableError,
    StaleDecisionError,
)
from provisioning.identity import Identity
from provisioning.linking import Rules
from provisioning.retry import is_connection_lost, is_too_slow, patiently, transient_reason
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
    outage: Outage = field(default_factory=Outage, repr=False)
    flights: Flights[Context] = field(default_factory=Flights, repr=False)

    def provide(
        self, identity: Identity, *, entry: Entry, now: datetime, generation: int | None = None
    ) -> Context:
        """Ensure the person's profile and return the context of their request.

        `generation` is the cache's, looked up before this call; with none the person's cached
        context is invalidated in any case. Simultaneous requests of one person share one way to the
        database, and only one of them is told `created`. Raises ProvisioningUnavailableError when
        an error that can pass did not pass in time, ProvisioningError when it will not pass.
        """
        started = time.monotonic()  # waiting for the flight before ours counts as well

        def ask() -> Context:
            before = generation or self.contexts.generation(identity.clerk_id)
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
            raise _as_provisioning_error(err, entry) from err
        _log_change(ensured, entry, started)
        return ensured

    def _patience_seconds(self, started: float) -> float:
        """How long to try again: the last try still fits into the budget.

        An outage's first seconds are worth waiting for; whoever comes into a longer one is told so
        at once, or all threads would be waiting and the next answer would come too late.
        """
        gone = max(time.monotonic() - started, self.outage.seconds)
        return max(0.0, REQUEST_BUDGET_SECONDS - SHORTEST_TRY_SECONDS - gone)

    def _remember(
        self, identity: Identity, ensured: Ensured, before: int | None, *, is_fresh: bool
    ) -> Context:
        """Bring the cache in line with what is committed now."""
        generation = before
        if is_fresh or ensured.outcome in CHANGES:
            generation = self.contexts.renew(identity.clerk_id, since=before)
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


def _as_provisioning_error(err: Exception, entry: Entry) -> ProvisioningError:
    """Say in the domain's words what the database's error means, and leave a trace of it."""
    is_retryable = bool(transient_reason(err)) or is_too_slow(err)
    log.error(
        "mentorado_creation_failed",
        error=type(err).__name__,
        sqlstate=getattr(getattr(err, "orig", None), "pgcode", None),
        retryable=is_retryable,
        entry=entry.door,
    )
    if is_connection_lost(err):
        return DatabaseUnavailableError("the database did not answer")
    if is_retryable:
        return ProvisioningUnavailableError("the database was too busy")
    return ProvisioningError(f"permanent failure: {type(err).__name__}")
