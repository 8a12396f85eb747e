"""The request context of a signed-in user: from the cache, or by an ensure call."""

import structlog
from flask import current_app, g, request
from sqlalchemy import select

from blueprints.answers import is_api_path
from blueprints.errors import UnauthenticatedError, provisioning_code
from blueprints.session import SAFE_METHODS
from blueprints.stance import stance_of
from extensions import transaction
from house import house
from identity.people import identity_of
from identity.tokens import SessionClaims
from models import User
from provisioning.audit import Entry
from provisioning.errors import (
    DatabaseUnavailableError,
    Denial,
    ProvisioningError,
)
from provisioning.identity import Identity
from session_context import Context, context_without_profile


def renew_context() -> None:
    """Ensure the person's profile anew, past the cache, and put the result on `g.context`."""
    g.context = known_context(g.claims, is_fresh=True)


def known_context(claims: SessionClaims, *, is_fresh: bool) -> Context:
    """What is known of them; with `is_fresh` the cache is passed by.

    Raises UnauthenticatedError for somebody whose account is deleted, DatabaseUnavailableError
    where there was nobody to ask.
    """
    context = _context(identity_of(claims), is_fresh=is_fresh)
    if context.status == Denial.USER_DELETED:
        raise UnauthenticatedError("the account has been deleted")
    return context


def _context(identity: Identity, *, is_fresh: bool) -> Context:
    structlog.contextvars.bind_contextvars(clerk_id=identity.clerk_id)
    guarantee = house().guarantee
    entry = Entry("api" if is_api_path(request.path) else "page", g.request_id)
    try:
        cached = None if is_fresh else guarantee.contexts.get(identity)
        if cached is not None:
            return cached
        return guarantee.provide(identity, entry=entry, now=house().now(), is_fresh=is_fresh)
    except DatabaseUnavailableError:
        copy = _dashboard_copy(identity)
        if copy is None:
            raise
        return copy
    except ProvisioningError as err:
        return _unprovided(identity, provisioning_code(err))


def _dashboard_copy(identity: Identity) -> Context | None:
    """What the user saw last, for reading their own dashboard while there is no database."""
    policy = stance_of(current_app.view_functions[str(request.endpoint)])
    if policy is None or not policy.serves_copy or request.method not in SAFE_METHODS:
        return None
    copy = house().guarantee.contexts.get_dashboard_copy(identity.clerk_id)
    return copy.context if copy else None


def _unprovided(identity: Identity, code: str) -> Context:
    """The context of somebody whose profile is not there just now: the same on every route."""
    with transaction() as session:
        user = session.scalars(select(User).where(User.clerk_id == identity.clerk_id)).one_or_none()
    return context_without_profile(user, identity, code)
