"""Login, logout, the signed-in user, the ensure call and the diagnostic."""

from typing import Literal
from urllib.parse import urlencode, urljoin

from flask import Blueprint, g, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from typing_extensions import TypedDict

from auth.cookies import CLIENT_UAT, SESSION
from core.database import transaction
from provisioning.context import (
    NOT_REQUIRED,
    READY,
    MentoradoShape,
    OutcomeShape,
    RequestContext,
    Status,
    UserShape,
    serialize_outcome,
)
from provisioning.user_lists import diagnose
from web.access_policy import public, public_unlimited, signed_in, signed_in_fresh
from web.api import PROFILE_CODES, api_operation, serialize_row
from web.errors import ProfileRequiredError
from web.mentee_texts import diagnostic_advice
from web.problem_responses import problem_response
from web.services import services
from web.session import end_session
from web.urls import safe_urlsplit

auth = Blueprint("auth", __name__)


class MeResponse(TypedDict):
    """The signed-in user; the profile is null unless the status is `ready`."""

    user: UserShape
    mentorado: MentoradoShape | None
    status: Status


class EnsureResponse(OutcomeShape):
    """The result of the ensure call, with the id of its request."""

    request_id: str


class DiagnosticFlags(TypedDict):
    """The facts that support needs first."""

    linked: bool
    unlinked_match: bool
    multiple_matches: bool
    pending_attempt: bool


class DiagnosticResponse(TypedDict):
    """The user's own state; the advice is in pt-BR."""

    user: UserShape
    mentorado: MentoradoShape | None
    status: DiagnosticFlags
    advice: list[str]
    request_id: str


@auth.get("/login")
@public_unlimited
def login() -> ResponseReturnValue:
    """Redirect to the sign-in page, which redirects to `next` afterwards."""
    target = local_path(request.args.get("next"))
    if services().dev_provider is not None:
        return redirect(url_for("local_clerk.sign_in", redirect_url=target))
    sign_in_url = services().config.sign_in_url
    if sign_in_url is None:
        return problem_response("not_configured")
    query = urlencode({"redirect_url": urljoin(request.host_url, target)})
    return redirect(f"{sign_in_url}{'&' if '?' in sign_in_url else '?'}{query}")


@auth.post("/logout")
@public
def logout() -> ResponseReturnValue:
    """End the session at Clerk and delete the session's cookies."""
    end_session()
    session.clear()
    response = redirect(url_for("auth.login"), code=303)
    for name in request.cookies:
        if name.startswith((SESSION, CLIENT_UAT)):
            response.delete_cookie(name)
    return response


@auth.get("/session")
@signed_in
def renewed() -> ResponseReturnValue:
    """An empty page for a hidden frame; loading it renews the browser's session."""
    return render_template("renewed.html")


@auth.get("/api/auth/me")
@signed_in
@api_operation()
def me() -> MeResponse:
    """The signed-in user, their profile, and the status that says whether it is usable."""
    context: RequestContext = g.context
    return {"user": context.user, "mentorado": context.mentorado, "status": context.status}


@auth.post("/api/auth/ensure")
@signed_in_fresh
@api_operation(*PROFILE_CODES)
def ensure() -> tuple[EnsureResponse, Literal[200, 201]]:
    """Ensure the profile now; 201 for the one call that created it."""
    context: RequestContext = g.context
    if context.status not in (READY, NOT_REQUIRED):
        raise ProfileRequiredError(context.status)
    body: EnsureResponse = {**serialize_outcome(context), "request_id": g.request_id}
    return body, 201 if body["created"] else 200


@auth.get("/api/auth/diagnostic")
@signed_in_fresh
@api_operation()
def diagnostic() -> DiagnosticResponse:
    """The user's own state in facts and advice, for a conversation with support."""
    context: RequestContext = g.context
    with transaction() as db_session:
        diagnosis = diagnose(db_session, context.user["clerk_id"])
    return {
        "user": context.user,
        "mentorado": context.mentorado,
        "status": serialize_row(DiagnosticFlags, diagnosis),
        "advice": diagnostic_advice(context, diagnosis),
        "request_id": g.request_id,
    }


def local_path(target: str | None) -> str:
    """Return a path of this site, or the dashboard's; anything else would be an open redirect."""
    fallback = url_for("pages.dashboard")
    if not target or not target.isprintable() or "\\" in target:
        return fallback
    parts = safe_urlsplit(target)
    is_local = not parts.scheme and not parts.netloc and parts.path.startswith("/")
    return target if is_local and not target.startswith("//") else fallback
