"""The one way from every door to the guarantee: knowledge, patience, transaction, log, cache."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count
from typing import TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from acquaintance import learned
from chronicle import told
from context_cache import ContextCache
from extensions import transaction
from flights import Flights
from identity.directory import Directory
from identity.errors import ProviderUnavailableError
from models import User
from perseverance import Perseverance
from provisioning import messages, people
from provisioning.audit import Entry
from provisioning.departure import depart
from provisioning.ensure import CHANGES, Ensured, Outcome, ensure
from provisioning.errors import (
    DatabaseUnavailableError,
    IdentityUnavailableError,
    NeedsAttentionError,
    ProvisioningUnavailableError,
)
from provisioning.identity import Identity
from provisioning.linking import Rules
from provisioning.recognition import recognised
from session_context import Context, context_of

log = structlog.get_logger(__name__)

INTRODUCTION_SECONDS = 0.2  # beside the record of the failure, and still within the request

Message = tuple[str, str]  # its id and what it is about
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Guarantee:
    """Makes sure of profiles under the operator's rules; one for an app, shared by its threads.

    Every method raises what `Perseverance.see_through` raises.
    """

    rules: Rules
    contexts: ContextCache
    perseverance: Perseverance = field(default_factory=Perseverance)
    directory: Directory | None = field(default=None, repr=False)
    flights: Flights[Context] = field(default_factory=Flights, repr=False)

    def provide(
        self, identity: Identity, *, entry: Entry, now: datetime, generation: int | None = None
    ) -> Context:
        """Ensure the person's profile and return the context of their request.

        `generation` is the cache's, looked up before this call; with none the person's cached
        context is invalidated in any case. Simultaneous requests of one person share one way to the
        database, and only one of them is told `created`.
        """
        started = time.monotonic()  # waiting for the flight before ours counts as well

        def ask() -> Context:
            before = generation or self.contexts.generations.of(identity.clerk_id)
            ensured = self._ensure(learned(self.directory, identity), entry, now, started)
            return self._remember(identity, ensured, before, is_fresh=generation is None)

        context, is_ours = self.flights.share((identity, generation is None), ask)
        return context if is_ours else replace(context, outcome=_told_to_others(context.outcome))

    def ensure(self, identity: Identity, *, entry: Entry, now: datetime) -> Ensured:
        """Ensure somebody who is not there in person; their next request finds the result."""
        ensured = self._ensure(identity, entry, now, time.monotonic())
        if ensured.outcome in CHANGES:
            self.contexts.renew(identity.clerk_id)
        return ensured

    def complete(self, clerk_id: str, *, entry: Entry, now: datetime) -> Ensured | None:
        """Ask the provider about somebody and ensure them with what it tells.

        Returns None where it knows nobody of that id. Raises IdentityUnavailableError as well, when
        it cannot be asked.
        """
        if self.directory is None:
            raise IdentityUnavailableError("there is no provider to ask")
        try:
            identity = self.directory.look_up(clerk_id, is_probe=True)
        except ProviderUnavailableError as err:
            raise IdentityUnavailableError(str(err)) from err
        if identity.is_unknown:
            self._heard(lambda s: people.note_heard(s, clerk_id, now), clerk_id, entry, now)
            return None
        return self.take_word(identity, entry=entry, now=now)

    def take_word(self, identity: Identity, *, entry: Entry, now: datetime) -> Ensured:
        """Ensure somebody of whom the provider has told everything; it may have changed a lot."""
        ensured = self._ensure(identity, entry, now, time.monotonic())
        self.contexts.renew(identity.clerk_id)
        return ensured

    def hear(self, message: Message, identity: Identity, *, entry: Entry, now: datetime) -> bool:
        """Take the word of a message; returns whether it was not heard before."""
        started = time.monotonic()

        def work(session: Session) -> Ensured | None:
            if not messages.is_new(session, *message):
                return None
            return ensure(session, identity, entry=entry, now=now, rules=self.rules)

        def hear() -> Ensured | None:
            return self._heard(work, identity.clerk_id, entry, now)

        return told(entry.door, started, hear) is not None

    def hear_of_departure(
        self, message: Message, identity: Identity, *, entry: Entry, now: datetime
    ) -> bool:
        """Let somebody go whose account is deleted; returns whether it was not heard before."""

        def work(session: Session) -> User | None:
            if not messages.is_new(session, *message):
                return None
            return depart(session, identity.clerk_id, entry=entry, now=now)

        return self._heard(work, identity.clerk_id, entry, now) is not None

    def _heard(
        self, work: Callable[[Session], Result], clerk_id: str, entry: Entry, now: datetime
    ) -> Result:
        """Do the work, the note of its message with it; the person's next request sees it."""
        result = self.perseverance.see_through(
            work, clerk_id, entry=entry, now=now, started=time.monotonic()
        )
        self.contexts.renew(clerk_id)
        return result

    def _ensure(self, identity: Identity, entry: Entry, now: datetime, started: float) -> Ensured:
        tries = count()

        def work(session: Session) -> Ensured:
            ensured = ensure(session, identity, entry=entry, now=now, rules=self.rules)
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


def _introduce(identity: Identity, now: datetime) -> None:
    """What failed was rolled back, the person with it; support shall find them all the same."""
    try:
        with transaction(INTRODUCTION_SECONDS) as session:
            people.introduce(session, identity, now)
    except SQLAlchemyError as err:
        log.warning("person_not_introduced", error=type(err).__name__)


def _told_to_others(outcome: str) -> str:
    return Outcome.EXISTING if outcome in CHANGES else outcome
