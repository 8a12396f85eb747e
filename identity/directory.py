"""What the identity provider knows of people: asked seldom, once for all who wait, and in time."""

import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTimeError
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

import metrics
from identity.clerk_api import NOT_JSON, TIMEOUT_SECONDS, Document
from identity.errors import (
    InvalidTokenError,
    ProviderUnavailableError,
    RateLimitedError,
    UnknownUserError,
    UnreadableProfileError,
    UnusableAnswerError,
)
from identity.profiles import described
from identity.throttle import Throttle
from identity.tokens import checked_subject
from provisioning.identity import Identity

log = structlog.get_logger(__name__)

CALLERS = 8  # questions at the same time, whoever waits for them
FRESH_SECONDS = 5.0  # whoever comes so shortly after an answer shares it
LONGEST_WAIT_SECONDS = 300.0  # no matter what Retry-After says
UNREADABLE_IN_A_ROW = 16  # users; then it is not about single users any longer
# An id with one of these, or of dots alone, could change the address that is asked, also quoted:
# some proxies decode it on the way.
NOT_IN_AN_ID = re.compile(r"[/\\?#%]|^\.+$")
Answer = TypeVar("Answer")


class Source(Protocol):
    """Where users are described, in Clerk's words."""

    def user(self, clerk_id: str) -> Document:
        """One user; raises UnknownUserError, UnusableAnswerError and ProviderUnavailableError."""
        ...

    def users(self, offset: int, limit: int) -> Sequence[object]:
        """Users in the order of their creation; raises as `user` does."""
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
        self, clerk_id: str, *, wait_seconds: float = TIMEOUT_SECONDS, is_background: bool = False
    ) -> Identity:
        """Return all that the provider knows of this user; one question however many wait.

        A user that it does not know is complete as well: there is nothing more to be learned. An
        id that cannot be one of the provider's is such a user, and no question is sent. Background
        questions have a rate of their own. Raises UnusableAnswerError for an answer about this user
        that cannot be used, ProviderUnavailableError where no user can be asked about.
        """
        if not can_be_asked_about(clerk_id):
            return Identity(clerk_id, is_complete=True)
        try:
            return self._lookup(clerk_id, is_background=is_background).result(wait_seconds)
        except NotInTimeError as err:
            raise ProviderUnavailableError("no answer in time") from err

    def page(self, offset: int, limit: int) -> Page:
        """Return users in the order in which they signed up; raises ProviderUnavailableError.

        Where one user makes the whole answer unreadable (metadata nested too deep for any parser)
        the page is asked for in halves, so that the others are not lost.
        """
        self._throttle.admit()
        try:
            found = self._asked("users", lambda: self._source.users(offset, limit))
        except UnknownUserError as err:
            raise ProviderUnavailableError("there is no directory at this address") from err
        except UnusableAnswerError as err:
            if err.code != NOT_JSON:
                raise ProviderUnavailableError(str(err)) from err
            return self._halved(offset, limit)
        return Page([who for document in found for who in _readable(document)], len(found))

    def _halved(self, offset: int, limit: int) -> Page:
        if limit == 1:
            return Page([], 1)
        half = limit // 2
        low, high = self.page(offset, half), self.page(offset + half, limit - half)
        both = Page([*low.people, *high.people], low.size + high.size)
        if both.size >= UNREADABLE_IN_A_ROW and not both.people:
            raise ProviderUnavailableError("nothing in the directory can be read")
        return both

    def _lookup(self, clerk_id: str, *, is_background: bool) -> Future[Identity]:
        with self._lock:
            self._forget_old_answers()
            if clerk_id in self._lookups:
                return self._lookups[clerk_id][1]
            self._throttle.admit(is_background=is_background)
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
            return self._asked("user", lambda: self._described(clerk_id))
        except UnknownUserError:
            return Identity(clerk_id, is_complete=True)

    def _described(self, clerk_id: str) -> Identity:
        identity = described(self._source.user(clerk_id))
        if identity.clerk_id != clerk_id:
            raise UnusableAnswerError("another_user")
        return identity

    def _asked(self, call: str, question: Callable[[], Answer]) -> Answer:
        """Ask; tell the throttle whether the provider answers, and count how.

        An answer about one user that cannot be used is an answer: it closes nothing.
        """
        try:
            answer = question()
        except UnknownUserError:
            self._note(call, "not_found")
            raise
        except UnusableAnswerError as err:
            self._note(call, "unusable")
            log.warning("identity_answer_unusable", call=call, error=str(err))
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


def can_be_asked_about(clerk_id: str) -> bool:
    """Whether the provider could have a user of this id (CONTRACT section 3)."""
    try:
        checked_subject(clerk_id)
    except InvalidTokenError:
        return False
    return NOT_IN_AN_ID.search(clerk_id) is None


def _readable(document: object) -> list[Identity]:
    try:
        return [described(document)]
    except UnreadableProfileError:
        log.warning("unreadable_profile")
        return []
