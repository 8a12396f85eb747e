"""Why a session is not accepted, or nothing more can be learned about its person."""


class InvalidTokenError(Exception):
    """This is no usable session token; the message says why, for the log only."""


class UntimelyTokenError(InvalidTokenError):
    """A good token at the wrong time; `reason` is Clerk's name for what is wrong with the time."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnknownKeyError(InvalidTokenError):
    """A token under a key that the issuer does not publish, or no longer."""


class CallNeededError(Exception):
    """Only a call to the provider can tell, and none may be made before it is paid for."""


class KeysUnavailableError(Exception):
    """No token can be checked: the issuer's keys were never seen and it does not answer."""


class ProviderUnavailableError(Exception):
    """The Backend API cannot be asked about any user just now; the message is for the log only.

    `wait_seconds` is the time after which it may be asked again, where there is a limit to keep;
    None where a question was sent and not answered.
    """

    def __init__(self, message: str, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


class RateLimitedError(ProviderUnavailableError):
    """The provider refuses questions for some seconds (status 429)."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"rate limited for {seconds:.0f} s", seconds)
        self.seconds = seconds


class SecretKeyRefusedError(ProviderUnavailableError):
    """The Backend API refuses our own key: no question can be answered until it is corrected."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}: CLERK_SECRET_KEY is refused, copy it from Clerk again")


class UnusableAnswerError(Exception):
    """The provider answers, but its answer about this one user cannot be used.

    This is no outage: others can be asked about. `code` is the status of the answer, or a word for
    what is wrong with its body.
    """

    def __init__(self, code: str) -> None:
        super().__init__(f"unusable answer: {code}")
        self.code = code


class UnknownUserError(Exception):
    """The provider knows no user, session or nonce of that id."""


class UnreadableProfileError(UnusableAnswerError):
    """This document does not describe a user."""

    def __init__(self) -> None:
        super().__init__("not_a_user")


class InvalidSignatureError(Exception):
    """This message was not signed by whom it claims to be from, or not just now."""
