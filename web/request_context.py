"""The request context of a signed-in user: from the cache, or by an ensure call; flash messages."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import structlog
from flask import current_app, flash, g, get_flashed_messages, request

from auth.identity import Identity
from auth.tokens import SessionClaims, identity_from_claims
from core import deadlines
from core.connection_pool import pool_of
from core.database import db, transaction
from core.deadlines import scaled
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
from web.access_policy import POLICIES
from web.errors import AccountDeletedError, provisioning_error_code
from web.services import services
from web.session import SAFE_METHODS, is_api_path

# Of a request that asks for ensure, for the first connection; the rest is for its statements.
FIRST_CONNECTION_WAIT_SECONDS = 1.2


def ensure_context() -> None:
    """Ensure the user's profile again, without the cache, and set `g.context` to the result."""
    g.context = context_for_request(g.claims, None, skips_cache=True)


def context_for_request(
    claims: SessionClaims, cached: Sequence[Any] | None, *, skips_cache: bool
) -> RequestContext:
    """Return the context of the user of these claims: from the cache, or by an ensure call.

    `cached` are the values of `ContextCache.keys`; `skips_cache` ignores them. An impersonated
    session only reads the stored state: it creates nothing and is no visit. Raises
    AccountDeletedError for a deleted account, and DatabaseUnavailableError.
    """
    if skips_cache:  # such a request reads little afterwards, so that it can wait longer
        pool_of(db.engine.engine).wait_while_connecting(scaled(FIRST_CONNECTION_WAIT_SECONDS))
    if claims.impersonator is not None:
        return _impersonated_context(claims.subject)
    identity = identity_from_claims(claims)
    structlog.contextvars.bind_contextvars(clerk_id=identity.clerk_id)
    provisioning, now = services().provisioning, services().now()
    try:
        context = None if skips_cache else provisioning.contexts.evaluate(identity, cached, now)
        if context is None:
            context = provisioning.context_for(
                identity,
                source=_source(),
                now=now,
                skips_cache=skips_cache,
                received_at=deadlines.received_at.get(),
            )
    except DatabaseUnavailableError:
        copy = _dashboard_copy(identity)
        if copy is None:
            raise
        return copy
    except ProvisioningError as err:
        context = _fallback_context(identity, provisioning_error_code(err), skips_cache=skips_cache)
    lookup = context.next_lookup
    if lookup is not None and not lookup.must_wait and lookup.is_due(now):
        services().refresh.start(identity.clerk_id, now)
    if context.status == Denial.USER_DELETED:
        raise AccountDeletedError("the account has been deleted")
    return context


def _impersonated_context(clerk_id: str) -> RequestContext:
    """Return the stored context of a user whose session another account uses.

    Raises AccountDeletedError for a deleted account.
    """
    context = _stored_context(Identity(clerk_id), REQUIRED)
    if context.status == Denial.USER_DELETED:
        raise AccountDeletedError("the account has been deleted")
    if context.status == NOT_REQUIRED and not context.is_admin:
        return replace(context, status=REQUIRED)
    return context


def _stored_context(identity: Identity, status: str) -> RequestContext:
    """Return the stored context, read without a lock; `status` is that of an unknown user."""
    with transaction() as session:
        state = stored_state(session, identity.clerk_id)
    if state is None:
        return context_without_profile(identity, status)
    return replace(context_from_result(state), version=None)  # nothing is cached


def record_impersonated_write(impersonator: str) -> None:
    """Add an audit event for a write in an impersonated session, before the write is made."""
    route, mentorado = str(request.url_rule), g.context.mentorado
    with transaction() as session:
        audit.record(
            session,
            _source(),
            "impersonated_write",
            user_id=g.context.user["id"],
            mentorado_id=mentorado["id"] if mentorado else None,
            details={"impersonator": impersonator, "method": request.method, "route": route},
        )


def _source() -> Source:
    return Source("api" if is_api_path(request.path) else "page", g.request_id)


def _dashboard_copy(identity: Identity) -> RequestContext | None:
    """Return the last copy of the user's own dashboard, to be read during a database outage."""
    policy = POLICIES.get(current_app.view_functions[str(request.endpoint)])
    if policy is None or not policy.serves_copy or request.method not in SAFE_METHODS:
        return None
    copy = services().provisioning.contexts.get_dashboard_copy(identity.clerk_id)
    return copy.context if copy else None


def _fallback_context(identity: Identity, code: str, *, skips_cache: bool) -> RequestContext:
    """Return the stored context after an ensure call has failed.

    A stored denial holds. A user with a profile continues with it, and an admin continues without
    one. For other users, and for a request that asked for a new ensure call, the status is the
    failure's `code`.
    """
    context = _stored_context(identity, code)
    is_usable = context.status in (READY, NOT_REQUIRED)
    needs_ensure = skips_cache or (context.mentorado is None and not context.is_admin)
    if is_usable and needs_ensure:
        return replace(context, mentorado=None, status=code, outcome=Outcome.DENIED)
    return context


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
