"""Error handlers: answer every error with its code, as a problem document or a page."""

import math
from collections.abc import Iterable
from functools import partial

import structlog
from flask import Flask, current_app, request
from flask.typing import ResponseReturnValue
from gunicorn.http.errors import ParseException
from sqlalchemy.exc import NoResultFound, SQLAlchemyError
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed

from auth.errors import InvalidSignatureError, KeysUnavailableError
from provisioning.errors import (
    ConflictError,
    DatabaseConnectingError,
    MentoradoExistsError,
    ProvisioningError,
    UnknownMentoradoError,
    UnknownUserError,
)
from provisioning.retry import is_unavailable
from sweep.runs import SweepRunningError
from web import health
from web.errors import HttpError, TooManyRequestsError, provisioning_error_code
from web.problem_responses import problem_response
from web.session import is_api_path

log = structlog.get_logger(__name__)

CONNECTING_RETRY_SECONDS = 1  # with the pauses of preparing.js, a visitor rarely waits for two more

MISSING_OBJECTS = ("42P01", "42703", "42883")  # SQLSTATEs: no such table, column, function

# Codes for the statuses of Werkzeug; every other client error is answered as invalid input.
CODES_BY_STATUS = {
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    415: "unsupported_media_type",
}

# Domain errors that are answered with a code alone.
DOMAIN_ERROR_CODES: dict[type[Exception], str] = {
    UnknownUserError: "not_found",
    UnknownMentoradoError: "not_found",
    NoResultFound: "not_found",  # also of rows deleted since the request began
    ConflictError: "conflict",
    ParseException: "invalid_input",  # raised when a body with broken chunks is read
    InvalidSignatureError: "invalid_signature",
}


def register_error_handlers(app: Flask) -> None:
    """Register a handler for every kind of error, so that no response shows technical details."""
    app.register_error_handler(HttpError, _handle_http_error)
    app.register_error_handler(TooManyRequestsError, _handle_too_many_requests)
    app.register_error_handler(ProvisioningError, _handle_provisioning_error)
    app.register_error_handler(KeysUnavailableError, _handle_keys_unavailable)
    app.register_error_handler(SweepRunningError, _handle_sweep_running)
    app.register_error_handler(MentoradoExistsError, _handle_mentorado_exists)
    for error, code in DOMAIN_ERROR_CODES.items():
        app.register_error_handler(error, partial(_handle_domain_error, code))
    app.register_error_handler(SQLAlchemyError, _handle_database_error)
    app.register_error_handler(HTTPException, _handle_werkzeug_error)


def _handle_http_error(err: HttpError) -> ResponseReturnValue:
    if err.errors:
        return problem_response(err.code, errors=err.errors)
    return problem_response(err.code)


def _handle_too_many_requests(err: TooManyRequestsError) -> ResponseReturnValue:
    return problem_response(err.code, retry_after_seconds=math.ceil(err.seconds))


def _handle_provisioning_error(err: ProvisioningError) -> ResponseReturnValue:
    if isinstance(err, DatabaseConnectingError):
        return _handle_connecting(err)
    return problem_response(provisioning_error_code(err))


def _handle_connecting(err: DatabaseConnectingError) -> ResponseReturnValue:
    """Answer while the database is being connected: a page prepares the profile, and retries."""
    is_page = request.method in ("GET", "HEAD") and not is_api_path(request.path)
    code = "provisioning_unavailable" if is_page else provisioning_error_code(err)
    return problem_response(code, retry_after_seconds=CONNECTING_RETRY_SECONDS)


def _handle_keys_unavailable(_: KeysUnavailableError) -> ResponseReturnValue:
    return problem_response("provisioning_unavailable")


def _handle_sweep_running(err: SweepRunningError) -> ResponseReturnValue:
    return problem_response("sweep_running", id=err.run_id)


def _handle_mentorado_exists(err: MentoradoExistsError) -> ResponseReturnValue:
    return problem_response("mentorado_exists", mentorado_id=err.mentorado_id)


def _handle_domain_error(code: str, _: Exception) -> ResponseReturnValue:
    return problem_response(code)


def _handle_database_error(err: SQLAlchemyError) -> ResponseReturnValue:
    """Answer a database error of a view: an outage as 503, anything else as an internal error."""
    if is_unavailable(err):
        log.warning("database_unavailable", error=type(err).__name__)
        return problem_response("database_unavailable")
    if _is_not_migrated(err):
        log.error("database_not_migrated", advice="run flask db upgrade")
        return problem_response("database_unavailable")
    log.error("unexpected_error", exc_info=err)
    return problem_response("internal")


def _is_not_migrated(err: SQLAlchemyError) -> bool:
    """Whether a table, column or function is missing because migrations are."""
    sqlstate = getattr(getattr(err, "orig", None), "pgcode", None) or ""
    return sqlstate in MISSING_OBJECTS and health.database() == "behind_on_migrations"


def _handle_werkzeug_error(err: HTTPException) -> ResponseReturnValue:
    status = err.code or 500
    if isinstance(err, InternalServerError):
        log.error("unexpected_error", exc_info=err.original_exception or err)
        return problem_response("internal")
    if status < 400 or status >= 500:
        return err.get_response()
    if isinstance(err, MethodNotAllowed):
        return _handle_method_not_allowed(err.valid_methods or ())
    return problem_response(CODES_BY_STATUS.get(status, "invalid_input"))


def _handle_method_not_allowed(methods: Iterable[str]) -> ResponseReturnValue:
    """Answer 405 with the allowed methods, or 404 where there are none.

    The router collects the methods of every rule whose pattern matches, before it checks the bounds
    of the number in the address.
    """
    router = current_app.url_map.bind("", path_info=request.path)
    allowed = [method for method in methods if router.test(method=method)]
    response = problem_response("method_not_allowed" if allowed else "not_found")
    response.allow.update(allowed)
    return response
