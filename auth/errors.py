"""Errors of authentication and of calls to the identity provider."""

from auth.reasons import AuthReason, TokenReason


class InvalidTokenError(Exception):
    """The session token is not valid.

    The message describes the fault for the log; `reason` is Clerk's name for it.
    """

    def __init__(self, message: str, reason: str = TokenReason.INVALID) -> None:
        super().__init__(message)
        self.reason = str(reason)


class UntimelyTokenError(InvalidTokenError):
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
