"""Errors of authentication and of calls to the identity provider, and why a session is not usable.

The reasons have the names of Clerk's SDKs (@clerk/backend). The frontend API receives them as
`__clerk_hs_reason`, and the log contains them. A test compares the values with those of Clerk's
package.
"""

import enum


class AuthReason(enum.StrEnum):
    """Why a request is signed out or sent to the handshake (Clerk's `AuthErrorReason`)."""

    UAT_WITHOUT_SESSION = "client-uat-but-no-session-token"
    DEV_BROWSER_MISSING = "dev-browser-missing"
    DEV_BROWSER_SYNC = "dev-browser-sync"
    SESSION_AND_UAT_MISSING = "session-token-and-uat-missing"
    SESSION_MISSING = "session-token-missing"
    SESSION_EXPIRED = "session-token-expired"
    SESSION_BEFORE_UAT = "session-token-iat-before-client-uat"
    SESSION_NOT_YET_VALID = "session-token-nbf"
    SESSION_FROM_THE_FUTURE = "session-token-iat-in-the-future"
    SESSION_WITHOUT_UAT = "session-token-but-no-client-uat"
    TYPE_MISMATCH = "token-type-mismatch"


class TokenReason(enum.StrEnum):
    """Why a token is invalid at any time (Clerk's `TokenVerificationErrorReason`)."""

    INVALID = "token-invalid"
    INVALID_ALGORITHM = "token-invalid-algorithm"
    INVALID_ISSUER = "token-invalid-issuer"
    INVALID_PARTY = "token-invalid-authorized-parties"
    INVALID_SIGNATURE = "token-invalid-signature"
    VERIFICATION_FAILED = "token-verification-failed"
    UNKNOWN_KEY = "jwk-kid-mismatch"


class RefreshReason(enum.StrEnum):
    """Why an expired token was not refreshed (Clerk's `RefreshTokenErrorReason`)."""

    NO_COOKIE = "non-eligible-no-refresh-cookie"
    NOT_GET = "non-eligible-non-get"
    INVALID_SESSION = "invalid-session-token"
    NO_CLIENT = "missing-api-client"
    NOT_DECODED = "expired-session-token-decode-failed"
    NO_SESSION_ID = "expired-session-token-missing-sid-claim"
    FETCH_ERROR = "fetch-error"
    UNEXPECTED_SDK_ERROR = "unexpected-sdk-error"
    UNEXPECTED_API_ERROR = "unexpected-bapi-error"


# Codes that concern one user of a page, whose data make the whole page unreadable.
NOT_JSON, TOO_LARGE = "not_json", "too_large"


class InvalidTokenError(Exception):
    """The session token is not valid.

    The message describes the fault for the log; `reason` is Clerk's name for it.
    """

    def __init__(self, message: str, reason: str = TokenReason.INVALID) -> None:
        super().__init__(message)
        self.reason = str(reason)


class TokenTimeError(InvalidTokenError):
    """The token is valid at another time only."""

    def __init__(self, reason: AuthReason) -> None:
        super().__init__(reason, reason)

    @property
    def is_expired(self) -> bool:
        """Whether the token was valid before; otherwise it is valid later."""
        return self.reason == AuthReason.SESSION_EXPIRED


class UnknownKeyError(InvalidTokenError):
    """The token was signed with a key that the issuer does not publish (any longer)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, TokenReason.UNKNOWN_KEY)


class CallNeededError(Exception):
    """A call to the provider is needed, and its rate limit has to be charged first."""


class KeysUnavailableError(Exception):
    """No token can be verified: the issuer's keys were never fetched, and it does not answer."""


class ProviderUnavailableError(Exception):
    """The Backend API cannot be called for any user now; the message is for the log only.

    `wait_seconds` is the time after which it may be called again; None where a call was made and
    failed.
    """

    def __init__(self, message: str, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


class RateLimitedError(ProviderUnavailableError):
    """The provider refuses calls for some seconds (status 429)."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"rate limited for {seconds:.0f} s", seconds)
        self.seconds = seconds


class SecretKeyRefusedError(ProviderUnavailableError):
    """The Backend API refuses the secret key; no call succeeds until it is corrected."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}: CLERK_SECRET_KEY is refused, copy it from Clerk again")


class UnusableAnswerError(Exception):
    """The provider's response about one user cannot be used.

    This is not an outage: other users can be looked up. `code` is the status of the response, or
    names the fault of its body.
    """

    def __init__(self, code: str) -> None:
        super().__init__(f"unusable answer: {code}")
        self.code = code


class UnknownAtProviderError(Exception):
    """The provider has no user, session or nonce with that id."""


class RefreshRefusedError(UnknownAtProviderError):
    """A session was not refreshed; `reason` is Clerk's name for the cause."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = str(reason)


class UnreadableProfileError(UnusableAnswerError):
    """The document does not describe a user."""

    def __init__(self) -> None:
        super().__init__("not_a_user")


class InvalidSignatureError(Exception):
    """The signature of a webhook message is wrong or too old."""
