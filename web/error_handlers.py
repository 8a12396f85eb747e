"""Which answer does an error get? One of the table: a document for programs, a page for people."""

import math
from collections.abc import Iterable
from functools import partial

import structlog
from flask import Flask, current_app, request
from flask.typing import ResponseReturnValue
from gunicorn.http.errors import ParseException
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed

from auth.errors import InvalidSignatureError, KeysUnavailableError
from provisioning.admin_actions import ConflictError, UnknownMentoradoError, UnknownUserError
from provisioning.attempts import UnknownAttemptError
from provisioning.errors import ProvisioningError
from provisioning.preregistration import MentoradoExistsError
from provisioning.retry import is_unavailable
from sweep.runs import SweepRunningError
from web.errors import HttpError, TooManyRequestsError, provisioning_code
from web.problem_responses import problem_response

log = structlog.get_logger(__name__)

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
    UnknownUserError: "not_found",
    UnknownMentoradoError: "not_found",
    UnknownAttemptError: "not_found",
    ConflictError: "conflict",
    ParseException: "invalid_input",  # a body in broken chunks, found out while it is read
    InvalidSignatureError: "invalid_signature",
}


def register_errors(app: Flask) -> None:
    """Answer every error of the app from the table; nothing technical ever reaches a person."""
    app.register_error_handler(HttpError, _handle_http_error)
    app.register_error_handler(TooManyRequestsError, _answer_too_many)
    app.register_error_handler(ProvisioningError, _answer_provisioning)
    app.register_error_handler(KeysUnavailableError, _answer_no_keys)
    app.register_error_handler(SweepRunningError, _answer_sweep_running)
    app.register_error_handler(MentoradoExistsError, _answer_mentorado_exists)
    for error, code in PLAIN_CODES.items():
        app.register_error_handler(error, partial(_answer_plainly, code))
    app.register_error_handler(SQLAlchemyError, _answer_database)
    app.register_error_handler(HTTPException, _answer_http)


def _handle_http_error(err: HttpError) -> ResponseReturnValue:
    return (
        problem_response(err.code, errors=err.errors) if err.errors else problem_response(err.code)
    )


def _answer_too_many(err: TooManyRequestsError) -> ResponseReturnValue:
    return problem_response(err.code, retry_after_seconds=math.ceil(err.seconds))


def _answer_provisioning(err: ProvisioningError) -> ResponseReturnValue:
    return problem_response(provisioning_code(err))


def _answer_no_keys(_: KeysUnavailableError) -> ResponseReturnValue:
    return problem_response("provisioning_unavailable")


def _answer_sweep_running(err: SweepRunningError) -> ResponseReturnValue:
    return problem_response("sweep_running", id=err.run_id)


def _answer_mentorado_exists(err: MentoradoExistsError) -> ResponseReturnValue:
    return problem_response("mentorado_exists", mentorado_id=err.mentorado_id)


def _answer_plainly(code: str, _: Exception) -> ResponseReturnValue:
    return problem_response(code)


def _answer_database(err: SQLAlchemyError) -> ResponseReturnValue:
    """A database error in a view: passing ones may be tried again, the others are ours to mend."""
    if is_unavailable(err):
        log.warning("database_unavailable", error=type(err).__name__)
        return problem_response("database_unavailable")
    log.error("unexpected_error", exc_info=err)
    return problem_response("internal")


def _answer_http(err: HTTPException) -> ResponseReturnValue:
    status = err.code or 500
    if isinstance(err, InternalServerError):
        log.error("unexpected_error", exc_info=err.original_exception or err)
        return problem_response("internal")
    if status < 400 or status >= 500:
        return err.get_response()
    if isinstance(err, MethodNotAllowed):
        return _answer_method(err.valid_methods or ())
    return problem_response(HTTP_CODES.get(status, "invalid_input"))


def _answer_method(methods: Iterable[str]) -> ResponseReturnValue:
    """Tell which methods there are; 404 where it would be none.

    The router counts the methods of every rule that looks like the address, before it asks whether
    the number in it is within bounds.
    """
    router = current_app.url_map.bind("", path_info=request.path)
    there = [method for method in methods if router.test(method=method)]
    response = problem_response("method_not_allowed" if there else "not_found")
    response.allow.update(there)
    return response
