"""How a code of the table is told: a problem document for programs, a page for people."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Unpack
from urllib.parse import urlsplit, urlunsplit

from flask import Response, g, jsonify, render_template, request
from gunicorn.http.errors import ParseException
from typing_extensions import TypedDict
from werkzeug.exceptions import HTTPException

from core.types import one_of
from web.problems import PROBLEMS, Problem
from web.services import services
from web.urls import is_from_our_pages

API_PREFIXES = ("/api/", "/webhooks/")
RETRY_AFTER_SECONDS = 2
INVALID_HOST = "invalid_host"  # no page could be made: its links would lead nowhere
RETRYABLE_CODES = {
    *("unauthenticated", "provisioning_unavailable", "database_unavailable", "internal"),
}
# The longest note twice, as typed and as seen, in characters of several bytes, percent-encoded.
LARGEST_FORM_BYTES = 128 * 1024  # each of its fields costs time to decode
MOST_FIELDS = 100  # no form of ours has more, and the page would grow with them
ATTEMPTS = 3  # of the preparing page, after the request that has brought it
ATTEMPT = "tentativa"  # counts them in the address, for browsers without JavaScript


@dataclass(frozen=True, slots=True)
class Preparation:
    """Where a browser without JavaScript stands; `pause_seconds` before it asks for `next_url`."""

    next_url: str
    pause_seconds: int
    toast: str


class FieldError(TypedDict):
    """What is wrong with one field; the message is for people, in pt-BR."""

    field: str
    message: str


class Members(TypedDict, total=False):
    """What a problem may say beside its code: the wrong fields, or the id of what is in the way."""

    errors: Sequence[FieldError]
    id: int
    mentorado_id: int
    retry_after_ms: int


class ProblemDocument(Members):
    """A problem (RFC 9457); `title` and `detail` are for people, in pt-BR."""

    type: str
    title: str
    status: int
    code: Annotated[str, one_of(PROBLEMS)]
    detail: str
    request_id: str


def is_api_path(path: str) -> bool:
    """Whether a program is asking, so that it is answered with documents instead of pages."""
    return path.startswith(API_PREFIXES)


def problem_response(
    code: str, *, retry_after_seconds: int = RETRY_AFTER_SECONDS, **members: Unpack[Members]
) -> Response:
    """Answer a code of the table, with further members for the problem document.

    Where waiting helps, the answer says for how long.
    """
    problem = PROBLEMS[code]
    if problem.can_retry:
        members["retry_after_ms"] = retry_after_seconds * 1000
    if "claims" in g and code != "rate_limited":
        services().provisioning.contexts.remember_reference(reference(), g.claims.subject)
    if is_api_path(request.path) or code == INVALID_HOST:
        response = _document(code, problem, members)
    else:
        response = Response(_page(code, problem, members.get("errors", ())))
    response.status_code = problem.status
    response.headers["Cache-Control"] = "no-store"
    if problem.can_retry:
        response.headers["Retry-After"] = str(retry_after_seconds)
    return response


def support_link() -> str | None:
    """Where a person finds help, with the reference code of this answer appended."""
    url = services().config.support_url
    if not url:
        return None
    parts = urlsplit(url)
    is_mail = parts.scheme == "mailto"
    told = f"subject=Refer%C3%AAncia%20{reference()}" if is_mail else f"ref={reference()}"
    return urlunsplit(parts._replace(query=f"{parts.query}&{told}" if parts.query else told))


def reference() -> str:
    """The request's id; empty for what went wrong before the gate could name the request."""
    return str(g.get("request_id", ""))


def _document(code: str, problem: Problem, members: Members) -> Response:
    """A problem document (RFC 9457) in the shape of CONTRACT section 4.3."""
    document: ProblemDocument = {
        "type": f"urn:neon-dashboard:problem:{code}",
        "title": problem.title,
        "status": problem.status,
        "code": code,
        "detail": problem.detail,
        "request_id": reference(),
        **members,
    }
    response = jsonify(document)
    response.mimetype = "application/problem+json"
    return response


def _page(code: str, problem: Problem, errors: Sequence[FieldError]) -> str:
    is_visit = request.method in ("GET", "HEAD")
    if code == "provisioning_unavailable" and is_visit:
        return render_template("preparing.html", preparation=_preparation(), attempts=ATTEMPTS)
    return render_template(
        "error.html", code=code, problem=problem, errors=errors, kept=_resubmittable_fields(code)
    )


def _preparation() -> Preparation | None:
    """What comes next without JavaScript: as with it, ever longer pauses, and then an end."""
    made = request.args.get(ATTEMPT, 0, type=int)
    if not 0 <= made < ATTEMPTS:
        return None
    pause = max(RETRY_AFTER_SECONDS, 2**made) + random.randint(0, 1)  # nosec B311 # noqa: S311 - spreads them
    toast = "Erro, tentando novamente…" if made else "Preparando seu perfil…"
    return Preparation(f"{request.path}?{ATTEMPT}={made + 1}", pause, toast)


def _resubmittable_fields(code: str) -> list[tuple[str, str]] | None:
    """What a form has sent, to be sent again by one click; None where that would not help.

    Only for a form of our own: what another site has made the browser send must not be one click
    away from being sent by us.
    """
    if request.method != "POST" or code not in RETRYABLE_CODES or not is_from_our_pages():
        return None
    if (request.content_length or 0) > LARGEST_FORM_BYTES:
        return None
    request.max_content_length = LARGEST_FORM_BYTES
    try:
        fields = list(request.form.items(multi=True))
    except (HTTPException, ParseException):
        return None  # it cannot be read, for a second reason; the first is what is answered
    return fields if len(fields) <= MOST_FIELDS else None
