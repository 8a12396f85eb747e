"""What went wrong becomes an answer: a problem document for programs, a page for people."""

import math
from collections.abc import Iterable, Sequence
from functools import partial

import structlog
from flask import Flask, current_app, request
from flask.typing import ResponseReturnValue
from gunicorn.http.errors import ParseException
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed

from blueprints.answers import FieldError, answer
from identity.errors import InvalidSignatureError, KeysUnavailableError
from provisioning.attempts import UnknownAttemptError
from provisioning.errors import (
    DatabaseUnavailableError,
    NeedsAttentionError,
    ProvisioningError,
)
from provisioning.registration import MentoradoExistsError
from provisioning.repairs import ConflictError, UnknownMentoradoError, UnknownPersonError
from provisioning.retry import is_unavailable
from provisioning.runs import SweepRunningError
from session_context import NOT_REQUIRED

log = structlog.get_logger(__name__)


OTHER_ACCOUNT = "Este formulário foi aberto por outra conta. Abra a página de novo para usar a sua."

Errors = Sequence[FieldError]


class DoorError(Exception):
    """Something a door refuses; `code` is the public one of CONTRACT section 4.3."""

    code = "internal"
    errors: Errors = ()


class UnauthenticatedError(DoorError):
    """There is no valid session."""

    code = "unauthenticated"


class SessionLoopError(UnauthenticatedError):
    """Fresh cookies were fetched again and again, and none of them counts."""

    code = "session_loop"


class TooManyRequestsError(DoorError):
    """More than a person, or an address, may ask; `seconds` until they may go on."""

    code = "rate_limited"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"wait {seconds:.1f} s")
        self.seconds = seconds


class UnaddressedError(DoorError):
    """The request does not say by a usable name which server it means."""

    code = "invalid_host"


class ForbiddenError(DoorError):
    """Signed in, but not allowed here."""

    code = "forbidden"


class CsrfError(DoorError):
    """A write that may come from another site."""

    code = "csrf_failed"


class OtherPersonError(DoorError):
    """A form that somebody else had opened in this browser."""

    code = "conflict"

    def __init__(self) -> None:
        super().__init__("the form was opened by somebody else")
        self.errors = [{"field": "", "message": OTHER_ACCOUNT}]


class NotFoundError(DoorError):
    """There is nothing under this id."""

    code = "not_found"


class NotConfiguredError(DoorError):
    """Something that the operator has not set up."""

    code = "not_configured"


class UnsupportedMediaTypeError(DoorError):
    """A body that is not JSON."""

    code = "unsupported_media_type"


class InvalidInputError(DoorError):
    """A body that breaks the rules; `errors` names each field with its message in pt-BR."""

    code = "invalid_input"

    def __init__(self, errors: Errors) -> None:
        super().__init__("invalid input")
        self.errors = errors


class ProfileRequiredError(DoorError):
    """Signed in without a usable profile; `code` tells why there is none."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.code = "mentorado_required" if status == NOT_REQUIRED else status


# Werkzeug's statuses that have a code of their own; any other refusal of input is a 422.
HTTP_CODES = {
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    415: "unsupported_media_type",
}


# Errors of the rules that need no more than their code.
PLAIN_CODES: dict[type[Exception], str] = {
    UnknownPersonError: "not_found",
    UnknownMentoradoError: "not_found",
    UnknownAttemptError: "not_found",
    ConflictError: "conflict",
    ParseException: "invalid_input",  # a body in broken chunks, found out while it is read
    InvalidSignatureError: "invalid_signature",
}


def register_errors(app: Flask) -> None:
    """Answer every error of the app from the table; nothing technical ever reaches a person."""
    app.register_error_handler(DoorError, _answer_door)
    app.register_error_handler(TooManyRequestsError, _answer_too_many)
    app.register_error_handler(ProvisioningError, _answer_provisioning)
    app.register_error_handler(KeysUnavailableError, _answer_no_keys)
    app.register_error_handler(SweepRunningError, _answer_sweep_running)
    app.register_error_handler(MentoradoExistsError, _answer_mentorado_exists)
    for error, code in PLAIN_CODES.items():
        app.register_error_handler(error, partial(_answer_plainly, code))
    app.register_error_handler(SQLAlchemyError, _answer_database)
    app.register_error_handler(HTTPException, _answer_http)


def _answer_door(err: DoorError) -> ResponseReturnValue:
    return answer(err.code, errors=err.errors) if err.errors else answer(err.code)


def _answer_too_many(err: TooManyRequestsError) -> ResponseReturnValue:
    return answer(err.code, retry_after_seconds=math.ceil(err.seconds))


def _answer_provisioning(err: ProvisioningError) -> ResponseReturnValue:
    return answer(provisioning_code(err))


def provisioning_code(err: ProvisioningError) -> str:
    """The code for a guarantee that could not be kept."""
    if isinstance(err, DatabaseUnavailableError):
        return "database_unavailable"
    if isinstance(err, NeedsAttentionError):
        return "provisioning_needs_attention"
    return "provisioning_unavailable"


def _answer_no_keys(_: KeysUnavailableError) -> ResponseReturnValue:
    return answer("provisioning_unavailable")


def _answer_sweep_running(err: SweepRunningError) -> ResponseReturnValue:
    return answer("sweep_running", id=err.run_id)


def _answer_mentorado_exists(err: MentoradoExistsError) -> ResponseReturnValue:
    return answer("mentorado_exists", mentorado_id=err.mentorado_id)


def _answer_plainly(code: str, _: Exception) -> ResponseReturnValue:
    return answer(code)


def _answer_database(err: SQLAlchemyError) -> ResponseReturnValue:
    """A database error in a view: passing ones may be tried again, the others are ours to mend."""
    if is_unavailable(err):
        log.warning("database_unavailable", error=type(err).__name__)
        return answer("database_unavailable")
    log.error("unexpected_error", exc_info=err)
    return answer("internal")


def _answer_http(err: HTTPException) -> ResponseReturnValue:
    status = err.code or 500
    if isinstance(err, InternalServerError):
        log.error("unexpected_error", exc_info=err.original_exception or err)
        return answer("internal")
    if status < 400 or status >= 500:
        return err.get_response()
    if isinstance(err, MethodNotAllowed):
        return _answer_method(err.valid_methods or ())
    return answer(HTTP_CODES.get(status, "invalid_input"))


def _answer_method(methods: Iterable[str]) -> ResponseReturnValue:
    """Tell which methods there are; 404 where it would be none.

    The router counts the methods of every rule that looks like the address, before it asks whether
    the number in it is within bounds.
    """
    router = current_app.create_url_adapter(request)
    assert router is not None  # there is one for every request
    there = [method for method in methods if router.test(method=method)]
    response = answer("method_not_allowed" if there else "not_found")
    response.allow.update(there)
    return response
