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


class KeysUnavailableError(Exception):
    """No token can be checked: the issuer's keys were never seen and it does not answer."""


class ProviderUnavailableError(Exception):
    """The Backend API cannot be asked just now; the message says why, for the log only."""


class RateLimitedError(ProviderUnavailableError):
    """The provider wants to be left alone for some seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"rate limited for {seconds:.0f} s")
        self.seconds = seconds


class UnknownUserError(Exception):
    """The provider knows nobody of that id."""


class UnreadableProfileError(Exception):
    """What came is no description of a user."""


class InvalidSignatureError(Exception):
    """This message was not signed by whom it claims to be from, or not just now."""
