"""Errors that views and hooks raise, each with a code of `docs/reference/contract.md#errors`."""

from collections.abc import Sequence

from typing_extensions import TypedDict

from provisioning.context import NOT_REQUIRED
from provisioning.errors import (
    DatabaseUnavailableError,
    NeedsAttentionError,
    ProvisioningError,
)


class FieldError(TypedDict):
    """An error of one field; the message is in pt-BR."""

    field: str
    message: str


FieldErrors = Sequence[FieldError]

OTHER_ACCOUNT: FieldErrors = [
    {
        "field": "",
        "message": (
            "Este formulário foi aberto por outra conta. Abra a página de novo para usar a sua."
        ),
    }
]


class HttpError(Exception):
    """A request that is answered with a problem: its code, a reason for developers, field errors.

    The subclasses carry data or are caught apart.
    """

    def __init__(self, code: str, reason: str, errors: FieldErrors = ()) -> None:
        super().__init__(reason)
        self.code = code
        self.errors = errors


class UnauthenticatedError(HttpError):
    """The request has no valid session."""

    def __init__(self, reason: str, code: str = "unauthenticated") -> None:
        super().__init__(code, reason)


class AccountDeletedError(UnauthenticatedError):
    """The account has been deleted, so that signing in again cannot help."""


class SessionLoopError(UnauthenticatedError):
    """The browser has been sent to Clerk for fresh cookies repeatedly, without a valid session."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, "session_loop")


class TooManyRequestsError(HttpError):
    """The rate limit of a user or an address is exceeded; `seconds` until the next request."""

    def __init__(self, seconds: float) -> None:
        super().__init__("rate_limited", f"wait {seconds:.1f} s")
        self.seconds = seconds


class InvalidInputError(HttpError):
    """Invalid input; `errors` has each wrong field with its message in pt-BR."""

    def __init__(self, errors: FieldErrors) -> None:
        super().__init__("invalid_input", "invalid input", errors)


class ProfileRequiredError(HttpError):
    """The user has no usable profile; `code` says why."""

    def __init__(self, status: str) -> None:
        super().__init__("mentorado_required" if status == NOT_REQUIRED else status, status)


def provisioning_error_code(err: ProvisioningError) -> str:
    """Return the code for a failed ensure call."""
    if isinstance(err, DatabaseUnavailableError):
        return "database_unavailable"
    if isinstance(err, NeedsAttentionError):
        return "provisioning_needs_attention"
    return "provisioning_unavailable"
