"""Problem responses: a problem document for the API, an error page for browsers."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Unpack
from urllib.parse import urlsplit, urlunsplit

from flask import Response, g, jsonify, render_template, request
from gunicorn.http.errors import ParseException
from sqlalchemy.exc import SQLAlchemyError
from typing_extensions import TypedDict
from werkzeug.exceptions import HTTPException

from core.database import transaction
from core.types import one_of
from provisioning.same_person import address_to_use
from web.errors import FieldError
from web.problems import PROBLEMS, Problem
from web.services import services
from web.session import is_api_path
from web.urls import is_same_origin

RETRY_AFTER_SECONDS = 2
INVALID_HOST = "invalid_host"  # never a page: its links could not be built
RETRYABLE_CODES = {
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


@dataclass(frozen=True, slots=True)
class PreparingState:
    """The preparing page without JavaScript; the browser loads `next_url` after `pause_seconds`."""

    next_url: str
    pause_seconds: int
    toast: str


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


def problem_response(
    code: str, *, retry_after_seconds: int = RETRY_AFTER_SECONDS, **members: Unpack[ProblemMembers]
) -> Response:
    """Return the response for a code, with further members for the problem document.

    Where a retry can help, the response has `Retry-After`.
    """
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
    is_mail = parts.scheme == "mailto"
    parameter = (
        f"subject=Refer%C3%AAncia%20{reference_code()}" if is_mail else f"ref={reference_code()}"
    )
    return urlunsplit(
        parts._replace(query=f"{parts.query}&{parameter}" if parts.query else parameter)
    )


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
    is_page_request = request.method in ("GET", "HEAD")
    if code == "provisioning_unavailable" and is_page_request:
        return render_template(
            "preparing.html",
            preparation=_preparing_state(retry_after_seconds),
            first_pause_seconds=retry_after_seconds,
            attempts=MAX_ATTEMPTS,
        )
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


def _preparing_state(retry_after_seconds: int) -> PreparingState | None:
    """Return the next step without JavaScript: growing pauses, then None after the last attempt."""
    attempts_made = request.args.get(ATTEMPT_PARAMETER, 0, type=int)
    if not 0 <= attempts_made < MAX_ATTEMPTS:
        return None
    pause_seconds = max(retry_after_seconds, 2**attempts_made) + random.randint(0, 1)  # nosec B311 # noqa: S311 - jitter
    toast = "Erro, tentando novamente…" if attempts_made else "Preparando seu perfil…"
    return PreparingState(
        f"{request.path}?{ATTEMPT_PARAMETER}={attempts_made + 1}", pause_seconds, toast
    )


def _resubmittable_fields(code: str) -> list[tuple[str, str]] | None:
    """Return the fields of a POST, to be sent again by one click; None where that would not help.

    Only for a form of this site: a request that another site has forged must not be repeated by one
    click.
    """
    if request.method != "POST" or code not in RETRYABLE_CODES or not is_same_origin():
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
