"""What the identity provider knows of people: asked seldom, once for all who wait, and in time."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTimeError
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

import metrics
from identity.clerk_api import TIMEOUT_SECONDS, Document
from identity.errors import (
    ProviderUnavailableError,
    RateLimitedError,
    UnknownUserError,
    UnreadableProfileError,
)
from identity.profiles import described
from identity.throttle import Throttle
from provisioning.identity import Identity

log = structlog.get_logger(__name__)

CALLERS = 8  # questions at the same time, whoever waits for them
FRESH_SECONDS = 5.0  # whoever comes so shortly after an answer shares it
LONGEST_WAIT_SECONDS = 300.0  # no matter what Retry-After says
Answer = TypeVar("Answer")


class Source(Protocol):
    """Where users are described, in Clerk's words."""

    def user(self, clerk_id: str) -> Document:
        """One user; raises UnknownUserError and ProviderUnavailableError."""
        ...

    def users(self, offset: int, limit: int) -> list[Document]:
        """Users in the order of their creation; raises ProviderUnavailableError."""
        ...


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the directory; `size` counts the unreadable entries as well."""

    people: Sequence[Identity]
    size: int


class Directory:
    """Looks people up; one for an app, shared by its threads.

    A question is put from a thread of its own, so that nobody waits longer than they can afford,
    whatever hangs: a name server, a connection, or an answer that comes in drops.
    """

    def __init__(
        self, source: Source, throttle: Throttle, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._source = source
        self._throttle = throttle
        self._clock = clock
        self._lookups: dict[str, tuple[float, Future[Identity]]] = {}
        self._lock = threading.Lock()
        self._callers = ThreadPoolExecutor(CALLERS, thread_name_prefix="directory")

    @property
    def is_answering(self) -> bool:
        """Whether this process has heard well of the provider when it last asked."""
        return self._throttle.is_open

    def look_up(
        self, clerk_id: str, *, wait_seconds: float = TIMEOUT_SECONDS, is_probe: bool = False
    ) -> Identity:
        """All that the provider knows of this person; one question however many wait.

        Somebody it does not know is complete as well: there is nothing more to be learned. Raises
        ProviderUnavailableError.
        """
        try:
            return self._lookup(clerk_id, is_probe=is_probe).result(wait_seconds)
        except NotInTimeError as err:
            raise ProviderUnavailableError("no answer in time") from err

    def page(self, offset: int, limit: int) -> Page:
        """People in the order in which they signed up; raises ProviderUnavailableError."""
        self._throttle.admit()
        try:
            found = self._asked("users", lambda: self._source.users(offset, limit))
        except UnknownUserError as err:
            raise ProviderUnavailableError("there is no directory at this address") from err
        return Page([who for document in found for who in _readable(document)], len(found))

    def _lookup(self, clerk_id: str, *, is_probe: bool) -> Future[Identity]:
        with self._lock:
            self._forget_old_answers()
            if clerk_id in self._lookups:
                return self._lookups[clerk_id][1]
            self._throttle.admit(is_probe=is_probe)
            lookup = self._callers.submit(self._identity, clerk_id)
            self._lookups[clerk_id] = (self._clock(), lookup)
            return lookup

    def _forget_old_answers(self) -> None:
        too_old = self._clock() - FRESH_SECONDS
        for clerk_id, (asked_at, lookup) in list(self._lookups.items()):
            if lookup.done() and (asked_at < too_old or lookup.exception() is not None):
                del self._lookups[clerk_id]

    def _identity(self, clerk_id: str) -> Identity:
        try:
            identity = described(self._asked("user", lambda: self._source.user(clerk_id)))
        except UnknownUserError:
            return Identity(clerk_id, is_complete=True)
        except UnreadableProfileError as err:
            raise ProviderUnavailableError(str(err)) from err
        if identity.clerk_id != clerk_id:
            raise ProviderUnavailableError("the answer speaks of somebody else")
        return identity

    def _asked(self, call: str, question: Callable[[], Answer]) -> Answer:
        """Ask, and let the throttle and the counters know how it went."""
        try:
            answer = question()
        except UnknownUserError:
            self._note(call, "not_found")
            raise
        except RateLimitedError as err:
            self._throttle.told_to_wait(min(err.seconds, LONGEST_WAIT_SECONDS))
            self._note_trouble(call, "rate_limited", err)
            raise
        except ProviderUnavailableError as err:
            self._throttle.failed()
            self._note_trouble(call, "error", err)
            raise
        self._note(call, "ok")
        return answer

    def _note(self, call: str, result: str) -> None:
        self._throttle.succeeded()
        metrics.PROVIDER_REQUESTS.labels(call, result).inc()

    def _note_trouble(self, call: str, result: str, err: Exception) -> None:
        metrics.PROVIDER_REQUESTS.labels(call, result).inc()
        log.warning("identity_provider_unavailable", call=call, result=result, error=str(err))


def _readable(document: Document) -> list[Identity]:
    try:
        return [described(document)]
    except UnreadableProfileError:
        log.warning("unreadable_profile")
        return []
