"""The request context of a signed-in user: from the cache, or by an ensure call."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar, cast

import structlog
from flask import current_app, flash, g, get_flashed_messages, request
from pydantic import ValidationError
from sqlalchemy.exc import NoResultFound, SQLAlchemyError
from sqlalchemy.orm import Session

from auth.identity import Identity
from auth.tokens import SessionClaims, identity_from_claims
from core.connection_pool import pool_of
from core.database import db, transaction
from core.deadlines import scaled
from dashboard.months import (
    OwnProfile,
    StoredReport,
    read_report,
    report_from_text,
    report_to_text,
)
from dashboard.overview import Overview, compute_overview
from dashboard.periods import Period, current_period, working_period
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

# Of a request that asks for ensure, for the first connection; the rest is for its statements.
FIRST_CONNECTION_WAIT_SECONDS = 1.2

Result = TypeVar("Result")


def flash_user(message: str) -> None:
    """Flash a message for the signed-in user."""
    flash(message, g.context.user["clerk_id"])


def pop_flashes() -> list[str]:
    """Return the user's flash messages; those of another user are dropped.

    A response that is not shown (HEAD, a prefetch, a frame) leaves them for the next page.
    """
    headers = request.headers
    purpose = f"{headers.get('Sec-Purpose', '')} {headers.get('Purpose', '')}".lower()
    is_prefetch = "prefetch" in purpose or "prerender" in purpose
    is_document = headers.get("Sec-Fetch-Dest", "document") == "document"
    if "context" not in g or request.method == "HEAD" or is_prefetch or not is_document:
        return []
    categories = [g.context.user["clerk_id"]]
    return [str(message) for message in get_flashed_messages(category_filter=categories)]


def ensure_context() -> None:
    """Ensure the user's profile again, without the cache, and set `g.context` to the result."""
    g.context = context_for_request(g.claims, None, is_fresh=True)


def context_for_request(
    claims: SessionClaims, cached: Sequence[Any] | None, *, is_fresh: bool
) -> RequestContext:
    """Return the context of the user of these claims: from the cache, or by an ensure call.

    `cached` are the values of `ContextCache.keys`; `is_fresh` skips them. An impersonated session
    only reads the stored state: it creates nothing and is no visit. Raises AccountDeletedError for
    a deleted account, and DatabaseUnavailableError.
    """
    if is_fresh:  # such a request reads little afterwards, so that it can wait longer
        pool_of(db.engine.engine).wait_while_connecting(scaled(FIRST_CONNECTION_WAIT_SECONDS))
    if claims.impersonator is not None:
        return _impersonated_context(claims.subject)
    identity = identity_from_claims(claims)
    structlog.contextvars.bind_contextvars(clerk_id=identity.clerk_id)
    provisioning, now = services().provisioning, services().now()
    try:
        context = None if is_fresh else provisioning.contexts.evaluate(identity, cached, now)
        if context is None:
            source = Source("api" if is_api_path(request.path) else "page", g.request_id)
            context = provisioning.context_for(identity, source=source, now=now, is_fresh=is_fresh)
    except DatabaseUnavailableError:
        copy = _dashboard_copy(identity)
        if copy is None:
            raise
        return copy
    except ProvisioningError as err:
        context = _fallback_context(identity, provisioning_error_code(err), is_fresh=is_fresh)
    lookup = context.next_lookup
    if lookup is not None and not lookup.must_wait and lookup.is_due(now):
        app = cast(Any, current_app)._get_current_object()  # noqa: SLF001 - as Flask documents
        services().refresh.start(app, identity.clerk_id, now)
    if context.status == Denial.USER_DELETED:
        raise AccountDeletedError("the account has been deleted")
    return context


def _impersonated_context(clerk_id: str) -> RequestContext:
    """Return the stored context of a user whose session another account uses.

    Raises AccountDeletedError for a deleted account.
    """
    with transaction() as session:
        state = stored_state(session, clerk_id)
    if state is None:
        return context_without_profile(Identity(clerk_id), REQUIRED)
    context = context_from_result(state)
    if context.status == Denial.USER_DELETED:
        raise AccountDeletedError("the account has been deleted")
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
    needs_ensure = is_fresh or (state.mentorado is None and not state.user.is_admin)
    if is_usable and needs_ensure:
        return replace(context, mentorado=None, status=code, outcome=Outcome.DENIED, version=None)
    return replace(context, version=None)


def with_own_profile(
    work: Callable[[Session, OwnProfile], Result], *, is_single: bool = False
) -> Result:
    """Run the work in a transaction with the signed-in user's profile, and return its result.

    When the work raises NoResultFound, because the profile is gone or has another owner since the
    request context was cached, the profile is ensured again and the work is repeated. `is_single`
    is for work of one statement. Raises ProfileRequiredError if there is no profile then, and what
    the work raises.
    """
    for is_last in (False, True):
        own = OwnProfile(g.context.mentorado["id"], g.context.user["id"])
        try:
            with transaction(is_single=is_single) as session:
                return work(session, own)
        except NoResultFound:
            if is_last:
                raise
        ensure_context()
        if g.context.status != READY:
            raise ProfileRequiredError(g.context.status)
    raise AssertionError("the last try has returned or raised")


def period_due() -> Period:
    """Return the month that «Métricas» opens for the signed-in user, who has a profile.

    It is the `working_period`; in the month in which the mentee has joined, always that month.
    """
    joined_at, now = datetime.fromisoformat(g.context.mentorado["created_at"]), services().now()
    current = current_period(now)
    return working_period(now) if current_period(joined_at) < current else current


def own_overview() -> Overview:
    """Return the signed-in user's overview; raises as `own_report`."""
    stored = own_report()
    return compute_overview(stored.report, now=stored.as_of)


def own_report(until: Period | None = None) -> StoredReport:
    """Return the signed-in user's report, up to a month; during a database outage the last copy.

    Raises ProfileRequiredError if the profile is gone, and the database's error if there is no
    copy, or none that reaches back to the month.
    """
    now = services().now()
    try:
        report = with_own_profile(
            lambda s, own: read_report(s, own.id, owner_id=own.user_id, until=until), is_single=True
        )
    except SQLAlchemyError as err:
        if not is_outage(err):
            raise
        return _report_from_copy(err, until)
    stored = StoredReport(report, now)
    if until is None:
        services().provisioning.contexts.put_dashboard_copy(g.context, report_to_text(stored))
    return stored


def own_export() -> PersonExport:
    """Return everything that is kept about the signed-in user.

    Raises ProfileRequiredError for a user who could not be stored.
    """
    user_id = g.context.user["id"]
    if user_id is None:
        raise ProfileRequiredError(g.context.status)
    with transaction() as session:
        return export_person(session, find_person(session, user_id), now=services().now())


def _report_from_copy(err: SQLAlchemyError, until: Period | None) -> StoredReport:
    copy = services().provisioning.contexts.get_dashboard_copy(g.context.user["clerk_id"])
    try:
        stored = report_from_text(copy.report_text) if copy else None
    except ValidationError:
        stored = None  # written by another version of the program
    if stored is None:
        raise err
    if until is not None:
        months = stored.report.months
        if not months or until < months[0].period:
            raise err
        stored = replace(stored, report=stored.report.until(until))
    log.warning("read_only_answer", error=type(err).__name__)
    return stored
