"""Which profile is theirs? The context of whoever is at the gate, from the cache or ensured."""

import structlog
from flask import g, request
from sqlalchemy import select

from blueprints.answers import is_api_path
from blueprints.errors import UnauthenticatedError, provisioning_code
from blueprints.session import SAFE_METHODS
from extensions import transaction
from house import house
from identity.people import identity_of
from identity.tokens import SessionClaims
from models import User
from provisioning.audit import Entry
from provisioning.errors import (
    DatabaseUnavailableError,
    Denial,
    NeedsAttentionError,
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
    generation = None
    if not is_fresh:
        glance = house().guarantee.contexts.look_up(identity)
        if glance.context is not None:
            return glance.context
        generation = glance.generation
    entry = Entry("api" if is_api_path(request.path) else "page", g.request_id)
    try:
        return house().guarantee.provide(
            identity, entry=entry, now=house().now(), generation=generation
        )
    except ProvisioningError as err:
        kept = _last_good(err, identity, is_fresh=is_fresh)
        if kept is not None:
            return kept
        if isinstance(err, DatabaseUnavailableError):
            raise
        return _unprovided(identity, provisioning_code(err))


def _last_good(err: ProvisioningError, identity: Identity, *, is_fresh: bool) -> Context | None:
    """Whoever only reads is still who they were, as long as the trouble is one that passes."""
    is_reading = request.method in SAFE_METHODS and not is_fresh
    if not is_reading or isinstance(err, NeedsAttentionError):
        return None
    kept = house().guarantee.contexts.last_good(identity.clerk_id)
    return kept.context if kept else None


def _unprovided(identity: Identity, code: str) -> Context:
    """The context of somebody whose profile is not there just now: the same on every route."""
    with transaction() as session:
        user = session.scalars(select(User).where(User.clerk_id == identity.clerk_id)).one_or_none()
    return context_without_profile(user, identity, code)
