"""What doors refuse, and the code that says so (CONTRACT section 4.3)."""

from collections.abc import Sequence

from provisioning.context import NOT_REQUIRED
from provisioning.errors import (
    DatabaseUnavailableError,
    NeedsAttentionError,
    ProvisioningError,
)
from web.problem_responses import FieldError

OTHER_ACCOUNT = "Este formulário foi aberto por outra conta. Abra a página de novo para usar a sua."

Errors = Sequence[FieldError]


class HttpError(Exception):
    """Something a door refuses; `code` is the public one of CONTRACT section 4.3."""

    code = "internal"
    errors: Errors = ()


class UnauthenticatedError(HttpError):
    """There is no valid session."""

    code = "unauthenticated"


class AccountDeletedError(UnauthenticatedError):
    """The account has been deleted: signing in again, as after an expired session, cannot help."""


class SessionLoopError(UnauthenticatedError):
    """Fresh cookies were fetched again and again, and none of them counts."""

    code = "session_loop"


class TooManyRequestsError(HttpError):
    """More than a person, or an address, may ask; `seconds` until they may go on."""

    code = "rate_limited"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"wait {seconds:.1f} s")
        self.seconds = seconds


class InvalidHostError(HttpError):
    """The request does not say by a usable name which server it means."""

    code = "invalid_host"


class HeadersTooLargeError(HttpError):
    """The request's headers are larger than any browser sends them."""

    code = "payload_too_large"


class ForbiddenError(HttpError):
    """Signed in, but not allowed here."""

    code = "forbidden"


class CsrfError(HttpError):
    """A write that may come from another site."""

    code = "csrf_failed"


class OtherUserError(HttpError):
    """A form that somebody else had opened in this browser."""

    code = "conflict"

    def __init__(self) -> None:
        super().__init__("the form was opened by somebody else")
        self.errors = [{"field": "", "message": OTHER_ACCOUNT}]


class NotFoundError(HttpError):
    """There is nothing under this id."""

    code = "not_found"


class NotConfiguredError(HttpError):
    """Something that the operator has not set up."""

    code = "not_configured"


class UnsupportedMediaTypeError(HttpError):
    """A body that is not JSON."""

    code = "unsupported_media_type"


class InvalidInputError(HttpError):
    """A body that breaks the rules; `errors` names each field with its message in pt-BR."""

    code = "invalid_input"

    def __init__(self, errors: Errors) -> None:
        super().__init__("invalid input")
        self.errors = errors


class ProfileRequiredError(HttpError):
    """Signed in without a usable profile; `code` tells why there is none."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.code = "mentorado_required" if status == NOT_REQUIRED else status


def provisioning_code(err: ProvisioningError) -> str:
    """The code for a guarantee that could not be kept."""
    if isinstance(err, DatabaseUnavailableError):
        return "database_unavailable"
    if isinstance(err, NeedsAttentionError):
        return "provisioning_needs_attention"
    return "provisioning_unavailable"
