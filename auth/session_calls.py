"""Provider calls for a browser's session: exchange a handshake nonce, refresh, end the session."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from auth.errors import (
    InvalidTokenError,
    ProviderUnavailableError,
    RefreshReason,
    RefreshRefusedError,
    UnknownAtProviderError,
    UnusableAnswerError,
)
from auth.provider_calls import ProviderCalls, Share
from core.cache import LocalStore

NONCE_WAIT_SECONDS = 0.8
REFRESH_WAIT_SECONDS = 0.6
REFRESHED_SECONDS = 5.0  # during which requests with the same cookies share the new ones
REFUSED_REFRESH_SECONDS = 60
SIGN_OUT_WAIT_SECONDS = 0.5
ENDED_SECONDS = 60.0  # during which an ended session is not ended again
MAX_REFUSED = 4_096  # nonces, and refreshes
BAD_NONCE_SECONDS = 60


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
    """Makes these calls within the budget; one for an app, shared by its threads.

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
        return self.calls.is_available(Share.ANONYMOUS)

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
                Share.ANONYMOUS,
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
                Share.REFRESH,
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
            Share.SIGN_OUT,
            wait_seconds=SIGN_OUT_WAIT_SECONDS,
            keep_seconds=ENDED_SECONDS,
        )
