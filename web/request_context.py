"""The request context of a signed-in user: from the cache, or by an ensure call."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

import structlog
from flask import current_app, flash, g, get_flashed_messages, request
from sqlalchemy.exc import NoResultFound, SQLAlchemyError
from sqlalchemy.orm import Session

from auth.identity import Identity
from auth.tokens import SessionClaims, identity_from_claims
from core.database import transaction
from dashboard.months import OwnProfile
from dashboard.overview import Overview, overview_from_text, overview_to_text, read_overview
from provisioning import audit
from provisioning.audit import Source
from provisioning.context import (
    NOT_REQUIRED,
    READY,
    REQUIRED,
    RequestContext,
    context_from_result,
    context_without_profile,
)
from provisioning.ensure import Outcome, stored_state
from provisioning.errors import DatabaseUnavailableError, Denial, ProvisioningError
from provisioning.personal_data import PersonExport, export_person, find_person
from provisioning.retry import is_outage
from web.access_policy import policy_of
from web.errors import AccountDeletedError, ProfileRequiredError, provisioning_error_code
from web.problem_responses import is_api_path
from web.services import services
from web.session import SAFE_METHODS

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


def flash_user(message: str) -> None:
    """Flash a message for the signed-in user."""
    flash(message, g.context.user["clerk_id"])


def pop_flashes() -> list[str]:
    """Return the user's flash messages; those of another user are dropped.

    A response that is not shown (HEAD, a prefetch, a frame) leaves them for the next page.
    """
    if "context" not in g or not _is_visible_page():
        return []
    categories = [g.context.user["clerk_id"]]
    return [str(message) for message in get_flashed_messages(category_filter=categories)]


def _is_visible_page() -> bool:
    headers = request.headers
    purpose = f"{headers.get('Sec-Purpose', '')} {headers.get('Purpose', '')}".lower()
    is_prefetch = "prefetch" in purpose or "prerender" in purpose
    is_document = headers.get("Sec-Fetch-Dest", "document") == "document"
    return request.method != "HEAD" and not is_prefetch and is_document


def ensure_context() -> None:
    """Ensure the user's profile again, without the cache, and set `g.context` to the result."""
    g.context = context_for_request(g.claims, is_fresh=True)


def context_for_request(claims: SessionClaims, *, is_fresh: bool) -> RequestContext:
    """Return the context of the user of these claims; `is_fresh` skips the cache.

    An impersonated session only reads the stored state: it creates nothing and is no visit. Raises
    AccountDeletedError for a deleted account, and DatabaseUnavailableError.
    """
    if claims.impersonator is None:
        context = _load_or_ensure_context(identity_from_claims(claims), is_fresh=is_fresh)
    else:
        context = _impersonated_context(claims.subject)
    if context.status == Denial.USER_DELETED:
        raise AccountDeletedError("the account has been deleted")
    return context


def _impersonated_context(clerk_id: str) -> RequestContext:
    """Return the stored context of a user whose session another account uses."""
    with transaction() as session:
        state = stored_state(session, clerk_id)
    if state is None:
        return context_without_profile(Identity(clerk_id), REQUIRED)
    context = context_from_result(state)
    if context.status == NOT_REQUIRED and not state.user.is_admin:
        context = replace(context, status=REQUIRED)
    return replace(context, version=None)  # nothing is cached


def record_impersonated_write(impersonator: str) -> None:
    """Add an audit event for a write in an impersonated session, before the write is made."""
    context = g.context
    source = Source("api" if is_api_path(request.path) else "page", g.request_id)
    details = {
        "impersonator": impersonator,
        "method": request.method,
        "route": str(request.url_rule),
    }
    with transaction() as session:
        audit.record(
            session,
            source,
            "impersonated_write",
            user_id=context.user["id"],
            mentorado_id=context.mentorado["id"] if context.mentorado else None,
            details=details,
        )


def _load_or_ensure_context(identity: Identity, *, is_fresh: bool) -> RequestContext:
    structlog.contextvars.bind_contextvars(clerk_id=identity.clerk_id)
    provisioning = services().provisioning
    source = Source("api" if is_api_path(request.path) else "page", g.request_id)
    now = services().now()
    try:
        context = None if is_fresh else provisioning.contexts.get(identity, now)
        if context is None:
            context = provisioning.context_for(identity, source=source, now=now, is_fresh=is_fresh)
    except DatabaseUnavailableError:
        copy = _dashboard_copy(identity)
        if copy is None:
            raise
        return copy
    except ProvisioningError as err:
        return _fallback_context(identity, provisioning_error_code(err), is_fresh=is_fresh)
    if context.question and not context.question.must_wait and context.question.is_due(now):
        app = cast(Any, current_app)._get_current_object()  # noqa: SLF001 - as Flask documents
        services().refresh.start(app, identity.clerk_id, now)
    return context


def _dashboard_copy(identity: Identity) -> RequestContext | None:
    """Return the last copy of the user's own dashboard, to be read during a database outage."""
    policy = policy_of(current_app.view_functions[str(request.endpoint)])
    if policy is None or not policy.serves_copy or request.method not in SAFE_METHODS:
        return None
    copy = services().provisioning.contexts.get_dashboard_copy(identity.clerk_id)
    return copy.context if copy else None


def _fallback_context(identity: Identity, code: str, *, is_fresh: bool) -> RequestContext:
    """Return the stored context, read without a lock, after an ensure call has failed.

    A stored denial holds. A user with a profile continues with it, and an admin continues without
    one. For other users, and for a request that asked for a new ensure call, the status is the
    failure's `code`.
    """
    with transaction() as session:
        state = stored_state(session, identity.clerk_id)
    if state is None:
        return context_without_profile(identity, code)
    context = context_from_result(state)
    is_usable = context.status in (READY, NOT_REQUIRED)
    is_undecided = is_fresh or (state.mentorado is None and not state.user.is_admin)
    if is_usable and is_undecided:
        return replace(context, mentorado=None, status=code, outcome=Outcome.DENIED, version=None)
    return replace(context, version=None)


def with_own_profile(work: Callable[[Session, OwnProfile], Result]) -> Result:
    """Run the work in a transaction with the signed-in user's profile, and return its result.

    When the work raises NoResultFound, because the profile is gone or has another owner since the
    request context was cached, the profile is ensured again and the work is repeated. Raises
    ProfileRequiredError if there is no profile then, and what the work raises.
    """
    try:
        return _run_with_own_profile(work)
    except NoResultFound:
        ensure_context()
    if g.context.status != READY:
        raise ProfileRequiredError(g.context.status)
    return _run_with_own_profile(work)


def own_overview() -> Overview:
    """Return the signed-in user's overview; during a database outage the last copy.

    Raises ProfileRequiredError if the profile is gone, and the database's error if there is no
    copy.
    """
    now = services().now()
    try:
        overview = with_own_profile(
            lambda s, own: read_overview(s, own.id, now=now, owner_id=own.user_id)
        )
    except SQLAlchemyError as err:
        if not is_outage(err):
            raise
        return _overview_from_copy(err)
    services().provisioning.contexts.put_dashboard_copy(g.context, overview_to_text(overview))
    return overview


def own_export() -> PersonExport:
    """Return everything that is kept about the signed-in user.

    Raises ProfileRequiredError for a user who could not be stored.
    """
    user_id = g.context.user["id"]
    if user_id is None:
        raise ProfileRequiredError(g.context.status)
    with transaction() as session:
        return export_person(session, find_person(session, user_id), now=services().now())


def _run_with_own_profile(work: Callable[[Session, OwnProfile], Result]) -> Result:
    own = OwnProfile(g.context.mentorado["id"], g.context.user["id"])
    with transaction() as session:
        return work(session, own)


def _overview_from_copy(err: SQLAlchemyError) -> Overview:
    copy = services().provisioning.contexts.get_dashboard_copy(g.context.user["clerk_id"])
    if copy is None:
        raise err
    log.warning("read_only_answer", error=type(err).__name__)
    return overview_from_text(copy.overview)
