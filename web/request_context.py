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
from dashboard import overview as snapshot
from dashboard.months import OwnProfile
from dashboard.overview import Overview, read_overview
from provisioning.audit import Source
from provisioning.context import (
    NOT_REQUIRED,
    READY,
    RequestContext,
    context_from_result,
    context_without_profile,
)
from provisioning.ensure import Outcome, stored_state
from provisioning.errors import DatabaseUnavailableError, Denial, ProvisioningError
from provisioning.retry import is_outage
from web.access_policy import policy_of
from web.errors import AccountDeletedError, ProfileRequiredError, provisioning_code
from web.problem_responses import is_api_path
from web.services import services
from web.session import SAFE_METHODS


def flash_user(message: str) -> None:
    """Leave a message for the person at the gate."""
    flash(message, g.context.user["clerk_id"])


def pop_flashes() -> list[str]:
    """Take the messages of the user; those of another user are dropped.

    A page that is not shown to a person (HEAD, a prefetch, a frame) leaves them for one that is.
    """
    if "context" not in g or not _is_shown():
        return []
    own = [g.context.user["clerk_id"]]
    return [str(message) for message in get_flashed_messages(category_filter=own)]


def _is_shown() -> bool:
    headers = request.headers
    purpose = f"{headers.get('Sec-Purpose', '')} {headers.get('Purpose', '')}".lower()
    is_ahead = "prefetch" in purpose or "prerender" in purpose
    is_document = headers.get("Sec-Fetch-Dest", "document") == "document"
    return request.method != "HEAD" and not is_ahead and is_document


def renew_context() -> None:
    """Ensure the person's profile anew, past the cache, and put the result on `g.context`."""
    g.context = context_for_request(g.claims, is_fresh=True)


def context_for_request(claims: SessionClaims, *, is_fresh: bool) -> RequestContext:
    """The context of the user of these claims; with `is_fresh` the cache is not used.

    Raises AccountDeletedError for a deleted account, and DatabaseUnavailableError.
    """
    context = _context(identity_from_claims(claims), is_fresh=is_fresh)
    if context.status == Denial.USER_DELETED:
        raise AccountDeletedError("the account has been deleted")
    return context


def _context(identity: Identity, *, is_fresh: bool) -> RequestContext:
    structlog.contextvars.bind_contextvars(clerk_id=identity.clerk_id)
    guarantee = services().provisioning
    source = Source("api" if is_api_path(request.path) else "page", g.request_id)
    now = services().now()
    try:
        context = None if is_fresh else guarantee.contexts.get(identity, now)
        if context is None:
            context = guarantee.context_for(identity, source=source, now=now, is_fresh=is_fresh)
    except DatabaseUnavailableError:
        copy = _dashboard_copy(identity)
        if copy is None:
            raise
        return copy
    except ProvisioningError as err:
        return _stored_context(identity, provisioning_code(err), is_fresh=is_fresh)
    if context.question and not context.question.must_wait and context.question.is_due(now):
        app = cast(Any, current_app)._get_current_object()  # noqa: SLF001 - as Flask documents
        services().refresh.start(app, identity.clerk_id, now)
    return context


def _dashboard_copy(identity: Identity) -> RequestContext | None:
    """What the user saw last, for reading their own dashboard while there is no database."""
    policy = policy_of(current_app.view_functions[str(request.endpoint)])
    if policy is None or not policy.serves_copy or request.method not in SAFE_METHODS:
        return None
    copy = services().provisioning.contexts.get_dashboard_copy(identity.clerk_id)
    return copy.context if copy else None


def _stored_context(identity: Identity, code: str, *, is_fresh: bool) -> RequestContext:
    """The context as the database has it, read without a lock, where an ensure call has failed.

    A denial that is stored holds. A user whose profile is there goes on with it, and an admin
    without one; for all others, and for a request that asked for a new ensure call, the failure's
    `code` is the status.
    """
    with transaction() as session:
        state = stored_state(session, identity.clerk_id)
    if state is None:
        return context_without_profile(identity, code)
    context = context_from_result(state)
    is_served = context.status in (READY, NOT_REQUIRED)
    is_undecided = is_fresh or (state.mentorado is None and not state.user.is_admin)
    if is_served and is_undecided:
        return replace(context, mentorado=None, status=code, outcome=Outcome.DENIED, version=None)
    return replace(context, version=None)


log = structlog.get_logger(__name__)

Result = TypeVar("Result")


def with_own_profile(work: Callable[[Session, OwnProfile], Result]) -> Result:
    """Do the work in a transaction, with the profile of the user who asks.

    When the work raises NoResultFound, because the profile is gone or has got another owner since
    the request context was cached, the profile is ensured anew and the work is done again. Raises
    ProfileRequiredError for one that has gone for good, and what the work raises.
    """
    try:
        return _run_with_own_profile(work)
    except NoResultFound:
        renew_context()
    if g.context.status != READY:
        raise ProfileRequiredError(g.context.status)
    return _run_with_own_profile(work)


def own_overview() -> Overview:
    """Read the overview of the person at the gate; without database, what they saw last.

    Raises ProfileRequiredError for a profile that has gone for good, and what the database raises
    where there is nothing to fall back on.
    """
    now = services().now()
    try:
        overview = with_own_profile(
            lambda s, own: read_overview(s, own.id, now=now, owner_id=own.user_id)
        )
    except SQLAlchemyError as err:
        if not is_outage(err):
            raise
        return _stored_overview(err)
    services().provisioning.contexts.put_dashboard_copy(
        g.context, snapshot.overview_to_text(overview)
    )
    return overview


def _run_with_own_profile(work: Callable[[Session, OwnProfile], Result]) -> Result:
    own = OwnProfile(g.context.mentorado["id"], g.context.user["id"])
    with transaction() as session:
        return work(session, own)


def _stored_overview(err: SQLAlchemyError) -> Overview:
    kept = services().provisioning.contexts.get_dashboard_copy(g.context.user["clerk_id"])
    if kept is None:
        raise err
    log.warning("read_only_answer", error=type(err).__name__)
    return snapshot.overview_from_text(kept.overview)
