"""Error handlers: each error becomes a problem document for the API, or a page for browsers."""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Unpack
from urllib.parse import urlsplit, urlunsplit

import structlog
from flask import Flask, Response, current_app, g, jsonify, render_template, request
from flask.typing import ResponseReturnValue
from gunicorn.http.errors import ParseException
from sqlalchemy.exc import NoResultFound, SQLAlchemyError
from typing_extensions import TypedDict
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed

from auth.errors import InvalidSignatureError, KeysUnavailableError
from core.database import transaction
from core.types import one_of
from provisioning.errors import (
    ConflictError,
    DatabaseConnectingError,
    MentoradoExistsError,
    ProvisioningError,
    UnknownMentoradoError,
    UnknownUserError,
)
from provisioning.retry import is_unavailable
from provisioning.same_person import address_to_use
from sweep.runs import SweepRunningError
from web import health
from web.errors import (
    PROBLEMS,
    FieldError,
    HttpError,
    Problem,
    TooManyRequestsError,
    provisioning_error_code,
)
from web.services import services
from web.session import is_api_path
from web.urls import is_same_origin

log = structlog.get_logger(__name__)

RETRY_AFTER_SECONDS = 2
INVALID_HOST = "invalid_host"  # never a page: its links could not be built
CONNECTING_RETRY_SECONDS = 1  # with the pauses of preparing.js, a visitor rarely waits for two more
MISSING_OBJECTS = ("42P01", "42703", "42883")  # SQLSTATEs: no such table, column, function
# Errors that are answered with a code alone.
CODES_BY_ERROR: dict[type[Exception], str] = {
    UnknownUserError: "not_found",
    UnknownMentoradoError: "not_found",
    NoResultFound: "not_found",  # also of rows deleted since the request began
    ConflictError: "conflict",
    ParseException: "invalid_input",  # raised when a body with broken chunks is read
    InvalidSignatureError: "invalid_signature",
    KeysUnavailableError: "provisioning_unavailable",
}
# Codes for the statuses of Werkzeug; every other client error is answered as invalid input.
CODES_BY_STATUS = {
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    415: "unsupported_media_type",
}
# Codes whose page offers to send the form again.
RESUBMITTABLE_CODES = {
    "unauthenticated",
    "provisioning_unavailable",
    "database_unavailable",
    "internal",
}
# Enough for the longest note twice, typed and saved, in multi-byte characters, percent-encoded.
MAX_FORM_BYTES = 128 * 1024  # a limit, because each field costs time to decode
MAX_FORM_FIELDS = 100  # more than any form has; the error page repeats each of them
CONTINUED_FIELD = "continuou"  # sent with a form again, after its session had expired
OTHER_ACCOUNT_HELPS = {
    "session_loop",
    "mentorado_required",
    "auto_create_disabled",
    "not_invited",
    "mentorado_inactive",
    "user_blocked",
    "provisioning_needs_attention",
}
MAX_ATTEMPTS = 3  # of the preparing page, after the request that has shown it
ATTEMPT_PARAMETER = "tentativa"  # counts the attempts in the URL, without JavaScript


class ProblemMembers(TypedDict, total=False):
    """Optional members of a problem: the wrong fields, or the id of the conflicting object."""

    errors: Sequence[FieldError]
    id: int
    mentorado_id: int
    retry_after_ms: int


class ProblemDocument(ProblemMembers):
    """A problem document (RFC 9457); `title` and `detail` are in pt-BR."""

    type: str
    title: str
    status: int
    code: Annotated[str, one_of(PROBLEMS)]
    detail: str
    request_id: str


def register_error_handlers(app: Flask) -> None:
    """Register a handler for every kind of error, so that no response shows technical details."""
    handle = app.register_error_handler
    for error, code in CODES_BY_ERROR.items():
        handle(error, lambda _, code=code: problem_response(code))
    handle(SweepRunningError, lambda err: problem_response("sweep_running", id=err.run_id))
    handle(
        MentoradoExistsError,
        lambda err: problem_response("mentorado_exists", mentorado_id=err.mentorado_id),
    )
    handle(ProvisioningError, lambda err: problem_response(provisioning_error_code(err)))
    handle(DatabaseConnectingError, _handle_connecting)
    handle(HttpError, _handle_http_error)
    handle(SQLAlchemyError, _handle_database_error)
    handle(HTTPException, _handle_werkzeug_error)


def _handle_http_error(err: HttpError) -> ResponseReturnValue:
    if isinstance(err, TooManyRequestsError):
        return problem_response(err.code, retry_after_seconds=math.ceil(err.seconds))
    if err.errors:
        return problem_response(err.code, errors=err.errors)
    return problem_response(err.code)


def _handle_connecting(err: DatabaseConnectingError) -> ResponseReturnValue:
    """Answer while the database is being connected: a page prepares the profile, and retries."""
    is_page = request.method in ("GET", "HEAD") and not is_api_path(request.path)
    code = "provisioning_unavailable" if is_page else provisioning_error_code(err)
    return problem_response(code, retry_after_seconds=CONNECTING_RETRY_SECONDS)


def _handle_database_error(err: SQLAlchemyError) -> ResponseReturnValue:
    """Answer a database error of a view: an outage as 503, anything else as an internal error."""
    if is_unavailable(err):
        log.warning("database_unavailable", error=type(err).__name__)
        return problem_response("database_unavailable")
    sqlstate = getattr(getattr(err, "orig", None), "pgcode", None)
    if sqlstate in MISSING_OBJECTS and health.database() == "behind_on_migrations":
        log.error("database_not_migrated", advice="run flask db upgrade")
        return problem_response("database_unavailable")
    log.error("unexpected_error", exc_info=err)
    return problem_response("internal")


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


def problem_response(
    code: str, *, retry_after_seconds: int = RETRY_AFTER_SECONDS, **members: Unpack[ProblemMembers]
) -> Response:
    """Return the response for a code; `members` are further ones of the problem document."""
    problem = PROBLEMS[code]
    if problem.can_retry:
        members["retry_after_ms"] = retry_after_seconds * 1000
    if "claims" in g and code != "rate_limited":
        services().provisioning.contexts.store_reference(reference_code(), g.claims.subject)
    if is_api_path(request.path) or code == INVALID_HOST:
        response = _document(code, problem, members)
    else:
        response = Response(_page(code, problem, retry_after_seconds, members.get("errors", ())))
    response.status_code = problem.status
    response.headers["Cache-Control"] = "no-store"
    if problem.can_retry:
        response.headers["Retry-After"] = str(retry_after_seconds)
    return response


def support_link() -> str | None:
    """Return the address of the support, with the reference code of this response appended."""
    url = services().config.support_url
    if not url:
        return None
    parts = urlsplit(url)
    name = "subject=Refer%C3%AAncia%20" if parts.scheme == "mailto" else "ref="
    query = "&".join(filter(None, (parts.query, f"{name}{reference_code()}")))
    return urlunsplit(parts._replace(query=query))


def reference_code() -> str:
    """Return the request's id; empty where an error came before the request hook had set it."""
    return str(g.get("request_id", ""))


def _document(code: str, problem: Problem, members: ProblemMembers) -> Response:
    """Return a problem document (RFC 9457) as in `docs/reference/contract.md#errors`."""
    document: ProblemDocument = {
        "type": f"urn:neon-dashboard:problem:{code}",
        "title": problem.title,
        "status": problem.status,
        "code": code,
        "detail": problem.detail,
        "request_id": reference_code(),
        **members,
    }
    response = jsonify(document)
    response.mimetype = "application/problem+json"
    return response


def _page(
    code: str, problem: Problem, retry_after_seconds: int, errors: Sequence[FieldError]
) -> str:
    if code == "provisioning_unavailable" and request.method in ("GET", "HEAD"):
        return _preparing_page(retry_after_seconds)
    fields = _resubmittable_fields(code)
    return render_template(
        "error.html",
        code=code,
        problem=_problem_of_user(problem) if code == "user_blocked" else problem,
        errors=errors,
        form_fields=fields,
        continued_field=CONTINUED_FIELD,
        has_continued=(CONTINUED_FIELD, "1") in (fields or ()),
        other_account_helps=OTHER_ACCOUNT_HELPS,
        checked_at=services().now(),
    )


def _problem_of_user(problem: Problem) -> Problem:
    """Return the problem of a blocked user; of two accounts, with the address to use instead."""
    try:
        with transaction() as session:
            address = address_to_use(session, g.claims.subject)
    except SQLAlchemyError:
        return problem  # the page without the address is right as well
    if address is None:
        return problem
    return replace(
        problem,
        title="Entre com a sua outra conta",
        detail=f"Juntamos as suas duas contas em uma só. Entre com {address}.",
        advice="Seus meses e seus feedbacks estão lá. Se não reconhece este e-mail, fale com a "
        "equipe da mentoria.",
    )


def _preparing_page(retry_after_seconds: int) -> str:
    """Return the page that retries by itself; without JavaScript with growing pauses, at last none.

    Without JavaScript the browser loads `next_url` after `pause_seconds`.
    """
    attempts_made = request.args.get(ATTEMPT_PARAMETER, 0, type=int)
    preparation = None
    if 0 <= attempts_made < MAX_ATTEMPTS:
        jitter = random.randint(0, 1)  # nosec B311 # noqa: S311 - no secret
        preparation = {
            "next_url": f"{request.path}?{ATTEMPT_PARAMETER}={attempts_made + 1}",
            "pause_seconds": max(retry_after_seconds, 2**attempts_made) + jitter,
            "toast": "Erro, tentando novamente…" if attempts_made else "Preparando seu perfil…",
        }
    return render_template(
        "preparing.html",
        preparation=preparation,
        first_pause_seconds=retry_after_seconds,
        attempts=MAX_ATTEMPTS,
    )


def _resubmittable_fields(code: str) -> list[tuple[str, str]] | None:
    """Return the fields of a POST, to be sent again by one click; None where that would not help.

    Only for a form of this site: a request that another site has forged must not be repeated by one
    click.
    """
    if request.method != "POST" or code not in RESUBMITTABLE_CODES or not is_same_origin():
        return None
    if (request.content_length or 0) > MAX_FORM_BYTES:
        return None
    request.max_content_length = MAX_FORM_BYTES
    try:
        if any(request.files.values()):
            return None  # a file cannot be sent again by a page
        fields = list(request.form.items(multi=True))
    except (HTTPException, ParseException):
        return None  # the body cannot be read either; the response keeps the first error
    return fields if len(fields) <= MAX_FORM_FIELDS else None
