"""Clerk's calls as the app makes them: within the budget, with a limit of waiting, and shared.

`UserDirectory` looks users up, one call for all waiting requests. `SessionCalls` are those for a
browser's session: exchange a handshake nonce, refresh, end the session.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from typing import Any, Protocol

import structlog

from auth.clerk_users import parse_clerk_user
from auth.errors import (
    NOT_JSON,
    TOO_LARGE,
    InvalidTokenError,
    ProviderUnavailableError,
    RefreshReason,
    RefreshRefusedError,
    UnknownAtProviderError,
    UnreadableProfileError,
    UnusableAnswerError,
)
from auth.identity import Identity
from auth.provider_calls import CALL_SECONDS, PAGE_SECONDS, ProviderCalls, Purpose
from auth.tokens import checked_subject
from core.cache import LocalStore

log = structlog.get_logger(__name__)

FRESH_SECONDS = 5.0  # an answer is shared with lookups of new users that follow within this time
MAX_UNREADABLE_USERS = 16  # users; with more, the whole directory counts as unreadable
# An id with one of these characters, or of dots alone, could change the URL of the call, also when
# it is quoted: some proxies decode it.
FORBIDDEN_IN_ID = re.compile(r"[/\\?#%]|^\.+$")
NONCE_WAIT_SECONDS = 0.8
BAD_NONCE_SECONDS = 60
REFRESH_WAIT_SECONDS = 0.6
REFRESHED_SECONDS = 5.0  # during which requests with the same cookies share the new ones
REFUSED_REFRESH_SECONDS = 60
MAX_REFUSED = 4_096  # nonces, and refreshes
SIGN_OUT_WAIT_SECONDS = 0.5
ENDED_SECONDS = 60.0  # during which an ended session is not ended again


class UserSource(Protocol):
    """A source of Clerk's user documents."""

    def user(self, clerk_id: str) -> Mapping[str, Any]:
        """Return a user; raises UnknownAtProviderError as well as the errors of `users`."""

    def users(self, offset: int, limit: int) -> Sequence[object]:
        """Return users by creation; raises UnusableAnswerError and ProviderUnavailableError."""


@dataclass(frozen=True, slots=True)
class DirectoryPage:
    """A page of the directory; `size` includes unreadable entries."""

    identities: Sequence[Identity]
    size: int


class UserDirectory:
    """Looks users up; one for an app, shared by its threads."""

    def __init__(self, source: UserSource, calls: ProviderCalls) -> None:
        self._source = source
        self._calls = calls

    @property
    def is_answering(self) -> bool:
        """Whether the latest call of this process to the provider was answered."""
        return self._calls.is_answering

    def look_up(
        self,
        clerk_id: str,
        *,
        wait_seconds: float = CALL_SECONDS,
        is_background: bool = False,
        is_new: bool = False,
    ) -> Identity:
        """Return the provider's complete identity of a user; concurrent lookups share one call.

        For a user who `is_new`, an answer of the last five seconds is good enough. An unknown user
        is a complete identity as well. No call is made for an id that the provider cannot have.
        Background calls have a separate rate. Raises UnusableAnswerError for an unusable answer
        about this user, and ProviderUnavailableError where no user can be looked up.
        """
        if not is_possible_user_id(clerk_id):
            return Identity(clerk_id, is_complete=True)
        try:
            return self._calls.run(
                "user",
                clerk_id,
                partial(self._identity, clerk_id),
                Purpose.BACKGROUND if is_background else Purpose.SIGNED_IN,
                wait_seconds=wait_seconds,
                keep_seconds=FRESH_SECONDS if is_new else 0.0,
            )
        except UnknownAtProviderError:
            return Identity(clerk_id, is_complete=True)

    def page(self, offset: int, limit: int) -> DirectoryPage:
        """Return users in the order in which they signed up; raises ProviderUnavailableError.

        One user can make the whole answer unreadable (metadata nested too deep for any parser). The
        page is then requested again in halves, so that the others are not lost.
        """
        try:
            documents = self._calls.run(
                "users",
                (offset, limit),
                partial(self._source.users, offset, limit),
                Purpose.BACKGROUND,
                wait_seconds=PAGE_SECONDS,
            )
        except UnknownAtProviderError as err:
            raise ProviderUnavailableError("there is no directory at this address") from err
        except UnusableAnswerError as err:
            if err.code not in (NOT_JSON, TOO_LARGE):
                raise ProviderUnavailableError(str(err)) from err
            return self._page_in_halves(offset, limit)
        identities = []
        for document in documents:
            try:
                identities.append(parse_clerk_user(document))
            except UnreadableProfileError:
                log.warning("unreadable_profile")
        return DirectoryPage(identities, len(documents))

    def _page_in_halves(self, offset: int, limit: int) -> DirectoryPage:
        if limit == 1:
            return DirectoryPage([], 1)
        half = limit // 2
        low, high = self.page(offset, half), self.page(offset + half, limit - half)
        both = DirectoryPage([*low.identities, *high.identities], low.size + high.size)
        if both.size >= MAX_UNREADABLE_USERS and not both.identities:
            raise ProviderUnavailableError("nothing in the directory can be read")
        return both

    def _identity(self, clerk_id: str) -> Identity:
        identity = parse_clerk_user(self._source.user(clerk_id))
        if identity.clerk_id != clerk_id:
            raise UnusableAnswerError("another_user")
        return identity


def is_possible_user_id(clerk_id: str) -> bool:
    """Whether the provider could have a user with this id (contract.md#who-is-asking)."""
    try:
        checked_subject(clerk_id)
    except InvalidTokenError:
        return False
    return FORBIDDEN_IN_ID.search(clerk_id) is None


@dataclass(frozen=True, slots=True)
class RefreshRequest:
    """An expired token with its refresh token, and the request that brought both."""

    session_id: str
    expired_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    origin: str
    headers: Mapping[str, str] = field(repr=False)
    are_suffixed: bool = False

    @property
    def key(self) -> str:
        """A digest of both tokens: equal requests share one call."""
        content = f"{self.expired_token}|{self.refresh_token}".encode("utf-8", "surrogatepass")
        return blake2b(content, digest_size=16).hexdigest()


@dataclass(slots=True)
class SessionCalls:
    """Calls for browser sessions; one for an app, shared by its threads.

    `end_session` ends a session by its id. `handshake_cookies` exchanges a nonce, and is None where
    the provider has no nonces. `refreshed_cookies` exchanges an expired token. `clock` is
    monotonic, in seconds.
    """

    calls: ProviderCalls
    end_session: Callable[[str], None]
    handshake_cookies: Callable[[str], list[str]] | None
    refreshed_cookies: Callable[[RefreshRequest], list[str]]
    clock: Callable[[], float] = time.monotonic
    _bad_nonces: LocalStore = field(init=False, repr=False)
    _refused_refreshes: LocalStore = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._bad_nonces = LocalStore(MAX_REFUSED, self.clock)
        self._refused_refreshes = LocalStore(MAX_REFUSED, self.clock)

    def can_exchange_nonces(self) -> bool:
        """Whether a nonce could be exchanged now."""
        return self.calls.is_available(Purpose.ANONYMOUS)

    def exchange_nonce(self, nonce: str) -> list[str]:
        """Exchange a nonce for cookies; a refused nonce is cached for a minute.

        Raises InvalidTokenError for a nonce that is refused, and ProviderUnavailableError.
        """
        exchange = self.handshake_cookies
        if exchange is None or self._bad_nonces.get(nonce):
            raise InvalidTokenError("a bad nonce")
        try:
            cookies = self.calls.run(
                "handshake",
                nonce,
                lambda: exchange(nonce),
                Purpose.ANONYMOUS,
                wait_seconds=NONCE_WAIT_SECONDS,
            )
        except (UnknownAtProviderError, UnusableAnswerError) as err:
            self._bad_nonces.set(nonce, "bad", BAD_NONCE_SECONDS)
            raise InvalidTokenError("a bad nonce") from err
        if not cookies:
            self._bad_nonces.set(nonce, "bad", BAD_NONCE_SECONDS)
        return cookies

    def refresh(self, request: RefreshRequest) -> list[str]:
        """Exchange an expired token for cookies; a refused one is not sent again for a minute.

        Raises RefreshRefusedError where there are none, whatever the cause: the caller has another
        way. Its reason is Clerk's name for the cause.
        """
        refused = self._refused_refreshes.get(request.key)
        if refused is not None:
            raise RefreshRefusedError(refused)
        try:
            cookies = self.calls.run(
                "refresh",
                request.key,
                lambda: self.refreshed_cookies(request),
                Purpose.REFRESH,
                wait_seconds=REFRESH_WAIT_SECONDS,
                keep_seconds=REFRESHED_SECONDS,
            )
        except RefreshRefusedError as err:
            self._refused_refreshes.set(request.key, err.reason, REFUSED_REFRESH_SECONDS)
            raise
        except (UnknownAtProviderError, UnusableAnswerError) as err:
            raise RefreshRefusedError(RefreshReason.UNEXPECTED_API_ERROR) from err
        except ProviderUnavailableError as err:
            raise RefreshRefusedError(RefreshReason.FETCH_ERROR) from err
        if not cookies:
            raise RefreshRefusedError(RefreshReason.UNEXPECTED_SDK_ERROR)
        return cookies

    def end(self, session_id: str) -> None:
        """End a session; the caller waits half a second at most, and raises as `calls.run`."""
        self.calls.run(
            "session",
            session_id,
            lambda: self.end_session(session_id),
            Purpose.SIGN_OUT,
            wait_seconds=SIGN_OUT_WAIT_SECONDS,
            keep_seconds=ENDED_SECONDS,
        )
