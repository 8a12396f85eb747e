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
from auth.user_directory import Directory
from core import metrics
from core.database import transaction
from core.single_flight import Flights
from models.provisioning_attempt import UNUSABLE_ANSWER
from provisioning import queries, webhook_messages
from provisioning.account_deletion import depart
from provisioning.attempts import Failure
from provisioning.audit import Entry
from provisioning.context import Context, context_of
from provisioning.context_cache import ContextCache
from provisioning.ensure import CHANGES, Ensured, Outcome, ensure, recognised
from provisioning.errors import (
    DatabaseUnavailableError,
    IdentityUnavailableError,
    NeedsAttentionError,
    ProvisioningError,
    ProvisioningUnavailableError,
    UnusableIdentityError,
)
from provisioning.identity_refresh import IdentityLookup, LookedUp
from provisioning.profiles import UserRow
from provisioning.retry import Perseverance
from provisioning.rules import Rules

log = structlog.get_logger(__name__)

Result = TypeVar("Result", Ensured, "Ensured | None")


def told(door: str, started: float, ensuring: Callable[[], Result]) -> Result:
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


def _label(ensured: Ensured) -> str:
    """One word for each person: whoever got a profile while others waited for them is a case of its
    own, and an admin without one is as it should be.
    """
    if ensured.is_ambiguous:
        return "ambiguous"
    return Outcome.EXISTING if ensured.outcome is Outcome.ADMIN else ensured.outcome


def _log_change(ensured: Ensured, door: str, started: float) -> None:
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


INTRODUCTION_SECONDS = 0.2  # beside the record of the failure, and still within the request

Message = tuple[str, str]  # its id and what it is about
WorkResult = TypeVar("WorkResult")


@dataclass(frozen=True, slots=True)
class Guarantee:
    """Makes sure of profiles under the operator's rules; one for an app, shared by its threads.

    Every method raises what `Perseverance.see_through` raises.
    """

    rules: Rules
    contexts: ContextCache
    perseverance: Perseverance = field(default_factory=Perseverance)
    directory: Directory | None = field(default=None, repr=False)
    max_age: timedelta = timedelta(days=1)
    flights: Flights[Context] = field(default_factory=Flights, repr=False)

    @property
    def lookup(self) -> IdentityLookup:
        """What asks the identity provider during a request."""
        return IdentityLookup(self.directory, self.max_age)

    def provide(
        self, identity: Identity, *, entry: Entry, now: datetime, is_fresh: bool = False
    ) -> Context:
        """Ensure the user's profile and return the context of their request.

        `is_fresh` says that the request asked for an invalidation of the cached context.
        Simultaneous requests of one user share one call, and only one of them gets `created`.
        """
        started = time.monotonic()  # waiting for the call before ours counts as well

        def ask() -> Context:
            read_at = self.contexts.clock()
            found = self.lookup.completed(identity, now)
            ensured = self._ensure(found, entry, now, started)
            return self._remember(identity, ensured, read_at, is_fresh=is_fresh)

        context, is_ours = self.flights.share((identity, is_fresh), ask)
        return context if is_ours else replace(context, outcome=_told_to_others(context.outcome))

    def ensure(self, identity: Identity, *, entry: Entry, now: datetime) -> Ensured:
        """Ensure somebody who is not there in person; their next request finds the result."""
        ensured = self._ensure(LookedUp(identity), entry, now, time.monotonic())
        if ensured.outcome in CHANGES or ensured.denial:
            self._publish(ensured.user)
        return ensured

    def complete(self, clerk_id: str, *, entry: Entry, now: datetime) -> Ensured | None:
        """Ask the provider about a user and ensure the profile with what it tells.

        Returns None where it knows no user of that id. Raises IdentityUnavailableError as well,
        where it cannot be asked, and UnusableIdentityError, with an attempt on record, where its
        answer about this user cannot be used.
        """
        try:
            identity = self._looked_up(clerk_id)
        except UnusableAnswerError as err:
            self.perseverance.record(clerk_id, Failure(UNUSABLE_ANSWER, err.code), entry, now)
            raise UnusableIdentityError(str(err)) from err
        return self._apply(identity, entry, now)

    def refresh(self, clerk_id: str, *, entry: Entry, now: datetime) -> Ensured | None:
        """As `complete`, of a user whose identity is complete but old.

        An answer that cannot be used takes nothing away and is no failed attempt; None as well.
        """
        try:
            identity = self._looked_up(clerk_id)
        except UnusableAnswerError:
            self._see_through(lambda s: queries.note_asked(s, clerk_id, now), clerk_id, entry, now)
            return None
        return self._apply(identity, entry, now)

    def refresh_if_due(self, clerk_id: str, *, entry: Entry, now: datetime) -> None:
        """Ask about a user who visits, unless another process has just done so.

        The next request reads anew, whatever came of it. Raises as `refresh` does.
        """
        try:
            if self.lookup.claimed_in_background(clerk_id, now):
                self.refresh(clerk_id, entry=entry, now=now)
        finally:
            self.contexts.drop(clerk_id)

    def _looked_up(self, clerk_id: str) -> Identity:
        if self.directory is None:
            raise IdentityUnavailableError("there is no provider to ask")
        try:
            return self.directory.look_up(clerk_id, is_background=True)
        except ProviderUnavailableError as err:
            raise IdentityUnavailableError(str(err), err.wait_seconds) from err

    def _apply(self, identity: Identity, entry: Entry, now: datetime) -> Ensured | None:
        """Ensure the profile with the provider's answer; None where it knows no such user."""
        if not identity.is_unknown:
            return self.take_word(identity, entry=entry, now=now)
        ids = [identity.clerk_id]
        self._see_through(lambda s: queries.note_unchanged(s, ids, now), ids[0], entry, now)
        return None

    def take_word(self, identity: Identity, *, entry: Entry, now: datetime) -> Ensured:
        """Ensure somebody of whom the provider has told everything; it may have changed a lot."""
        ensured = self._ensure(LookedUp(identity), entry, now, time.monotonic())
        self._publish(ensured.user)
        return ensured

    def hear(self, message: Message, identity: Identity, *, entry: Entry, now: datetime) -> bool:
        """Take the word of a message; returns whether it was not heard before."""
        started = time.monotonic()

        def work(session: Session) -> Ensured | None:
            if not webhook_messages.is_new(session, *message):
                return None
            if not identity.is_complete:
                queries.ask_again(session, identity.clerk_id)
            return ensure(session, identity, entry=entry, now=now, rules=self.rules)

        def hear() -> Ensured | None:
            return self._see_through(work, identity.clerk_id, entry, now)

        ensured = told(entry.door, started, hear)
        # Also for a message that was known: an earlier try may have committed, its answer lost.
        self.contexts.publish([identity.clerk_id])
        return ensured is not None

    def hear_of_departure(
        self, message: Message, identity: Identity, *, entry: Entry, now: datetime
    ) -> bool:
        """Let somebody go whose account is deleted; returns whether it was not heard before."""

        def work(session: Session) -> list[str] | None:
            if not webhook_messages.is_new(session, *message):
                return None
            return depart(session, identity.clerk_id, entry=entry, now=now)

        changed = self._see_through(work, identity.clerk_id, entry, now)
        self.contexts.publish([identity.clerk_id, *(changed or ())])  # as above
        return changed is not None

    def _publish(self, user: UserRow) -> None:
        self.contexts.publish_versions({user.clerk_id: user.context_version})

    def _see_through(
        self, work: Callable[[Session], WorkResult], clerk_id: str, entry: Entry, now: datetime
    ) -> WorkResult:
        return self.perseverance.see_through(
            work, clerk_id, entry=entry, now=now, started=time.monotonic()
        )

    def _ensure(self, found: LookedUp, entry: Entry, now: datetime, started: float) -> Ensured:
        identity, tries = found.identity, count()

        def work(session: Session) -> Ensured:
            ensured = self._ensure_once(session, found, entry, now)
            return recognised(session, ensured, entry) if next(tries) else ensured

        def see_through() -> Ensured:
            return self.perseverance.see_through(
                work, identity.clerk_id, entry=entry, now=now, started=started
            )

        try:
            return told(entry.door, started, see_through)
        except DatabaseUnavailableError:
            raise  # there is nothing to write to either
        except (ProvisioningUnavailableError, NeedsAttentionError):
            _introduce(identity, now)
            raise

    def _ensure_once(
        self, session: Session, found: LookedUp, entry: Entry, now: datetime
    ) -> Ensured:
        """Ensure the profile and note a question that the provider did not answer."""
        clerk_id = found.identity.clerk_id
        if found.is_unavailable:
            queries.ask_again(session, clerk_id)
        ensured = ensure(session, found.identity, entry=entry, now=now, rules=self.rules)
        if not found.is_unanswered:
            return ensured
        queries.note_asked(session, clerk_id, now)
        return replace(ensured, user=replace(ensured.user, identity_asked_at=now))

    def _remember(
        self, identity: Identity, ensured: Ensured, read_at: float, *, is_fresh: bool
    ) -> Context:
        """Store the context of a profile; after a change or a denial older entries end."""
        if is_fresh or ensured.outcome in CHANGES or ensured.denial:
            log.info("session_invalidated", user_id=ensured.user.id)
        question = self.lookup.question(identity, ensured.user)
        context = replace(context_of(ensured), question=question)
        self.contexts.put(identity, context, read_at)
        return context


def _introduce(identity: Identity, now: datetime) -> None:
    """What failed was rolled back, the person with it; support shall find them all the same."""
    try:
        with transaction(INTRODUCTION_SECONDS) as session:
            queries.introduce(session, identity, now)
    except SQLAlchemyError as err:
        log.warning("person_not_introduced", error=type(err).__name__)


def _told_to_others(outcome: str) -> str:
    return Outcome.EXISTING if outcome in CHANGES else outcome
