"""The request context of a signed-in user: from the cache, or by an ensure call."""

from dataclasses import replace
from typing import Any, cast

import structlog
from flask import current_app, g, request

from blueprints.answers import is_api_path
from blueprints.errors import AccountDeletedError, provisioning_code
from blueprints.session import SAFE_METHODS
from blueprints.stance import stance_of
from extensions import transaction
from house import house
from identity.people import identity_of
from identity.tokens import SessionClaims
from provisioning.audit import Entry
from provisioning.ensure import Outcome, stored_state
from provisioning.errors import (
    DatabaseUnavailableError,
    Denial,
    ProvisioningError,
)
from provisioning.identity import Identity
from session_context import NOT_REQUIRED, READY, Context, context_of, context_without_profile


def renew_context() -> None:
    """Ensure the person's profile anew, past the cache, and put the result on `g.context`."""
    g.context = known_context(g.claims, is_fresh=True)


def known_context(claims: SessionClaims, *, is_fresh: bool) -> Context:
    """The context of the user of these claims; with `is_fresh` the cache is not used.

    Raises AccountDeletedError for a deleted account, and DatabaseUnavailableError.
    """
    context = _context(identity_of(claims), is_fresh=is_fresh)
    if context.status == Denial.USER_DELETED:
        raise AccountDeletedError("the account has been deleted")
    return context


def _context(identity: Identity, *, is_fresh: bool) -> Context:
    structlog.contextvars.bind_contextvars(clerk_id=identity.clerk_id)
    guarantee = house().guarantee
    entry = Entry("api" if is_api_path(request.path) else "page", g.request_id)
    now = house().now()
    try:
        context = None if is_fresh else guarantee.contexts.get(identity, now)
        if context is None:
            context = guarantee.provide(identity, entry=entry, now=now, is_fresh=is_fresh)
    except DatabaseUnavailableError:
        copy = _dashboard_copy(identity)
        if copy is None:
            raise
        return copy
    except ProvisioningError as err:
        return _stored_context(identity, provisioning_code(err), is_fresh=is_fresh)
    if context.question and not context.question.must_wait and context.question.is_due(now):
        app = cast(Any, current_app)._get_current_object()  # noqa: SLF001 - as Flask documents
        house().refresh.start(app, identity.clerk_id, now)
    return context


def _dashboard_copy(identity: Identity) -> Context | None:
    """What the user saw last, for reading their own dashboard while there is no database."""
    policy = stance_of(current_app.view_functions[str(request.endpoint)])
    if policy is None or not policy.serves_copy or request.method not in SAFE_METHODS:
        return None
    copy = house().guarantee.contexts.get_dashboard_copy(identity.clerk_id)
    return copy.context if copy else None


def _stored_context(identity: Identity, code: str, *, is_fresh: bool) -> Context:
    """The context as the database has it, read without a lock, where an ensure call has failed.

    A denial that is stored holds. A user whose profile is there goes on with it, and an admin
    without one; for all others, and for a request that asked for a new ensure call, the failure's
    `code` is the status.
    """
    with transaction() as session:
        state = stored_state(session, identity.clerk_id)
    if state is None:
        return context_without_profile(identity, code)
    context = context_of(state)
    is_served = context.status in (READY, NOT_REQUIRED)
    is_undecided = is_fresh or (state.mentorado is None and not state.user.is_admin)
    if is_served and is_undecided:
        return replace(context, mentorado=None, status=code, outcome=Outcome.DENIED, version=None)
    return replace(context, version=None)
