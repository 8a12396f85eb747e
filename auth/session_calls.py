"""Provider calls for a browser's session: exchange a handshake nonce, end the session."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from auth.call_budget import Share
from auth.errors import InvalidTokenError, UnknownUserError, UnusableAnswerError
from auth.provider_calls import ProviderCalls
from core.cache import LocalStore

NONCE_WAIT_SECONDS = 0.8
SIGN_OUT_WAIT_SECONDS = 0.5
ENDED_SECONDS = 60.0  # during which an ended session is not ended again
MAX_BAD_NONCES = 4_096
BAD_NONCE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class SessionCalls:
    """Makes both calls within the budget; one for an app, shared by its threads.

    `end_session` ends a session by its id. `handshake_cookies` exchanges a nonce, and is None where
    the provider has no nonces. `clock` is monotonic, in seconds.
    """

    calls: ProviderCalls
    end_session: Callable[[str], None]
    handshake_cookies: Callable[[str], list[str]] | None = None
    clock: Callable[[], float] = time.monotonic
    _bad_nonces: LocalStore = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_bad_nonces", LocalStore(MAX_BAD_NONCES, self.clock))

    def exchange_nonce(self, nonce: str) -> list[str]:
        """Exchange a nonce for cookies; a refused nonce is cached for a minute.

        Raises InvalidTokenError for a nonce that Clerk does not accept, and
        ProviderUnavailableError.
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
        except (UnknownUserError, UnusableAnswerError) as err:
            self._bad_nonces.set(nonce, "bad", BAD_NONCE_SECONDS)
            raise InvalidTokenError("a bad nonce") from err
        if not cookies:
            self._bad_nonces.set(nonce, "bad", BAD_NONCE_SECONDS)
        return cookies

    def end(self, session_id: str) -> None:
        """End a session; the caller waits half a second at most, and the call continues.

        Raises ProviderUnavailableError, UnknownUserError and UnusableAnswerError.
        """
        self.calls.run(
            "session",
            session_id,
            lambda: self.end_session(session_id),
            Share.SIGN_OUT,
            wait_seconds=SIGN_OUT_WAIT_SECONDS,
            keep_seconds=ENDED_SECONDS,
        )
