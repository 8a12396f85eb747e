"""The dashboard numbers of whoever is signed in."""

from collections.abc import Callable
from typing import TypeVar

import structlog
from flask import g
from sqlalchemy.exc import NoResultFound, SQLAlchemyError
from sqlalchemy.orm import Session

from blueprints.acquainting import renew_context
from blueprints.errors import ProfileRequiredError
from dashboard import snapshot
from dashboard.months import OwnProfile
from dashboard.overview import Overview, read_overview
from extensions import transaction
from house import house
from provisioning.retry import is_outage
from session_context import READY

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


def with_own_profile(work: Callable[[Session, OwnProfile], Result]) -> Result:
    """Do the work in a transaction, with the profile of the user who asks.

    When the work raises NoResultFound, because the profile is gone or has got another owner since
    the request context was cached, the profile is ensured anew and the work is done again. Raises
    ProfileRequiredError for one that has gone for good, and what the work raises.
    """
    try:
        return _done(work)
    except NoResultFound:
        renew_context()
    if g.context.status != READY:
        raise ProfileRequiredError(g.context.status)
    return _done(work)


def own_overview() -> Overview:
    """Read the overview of the person at the gate; without database, what they saw last.

    Raises ProfileRequiredError for a profile that has gone for good, and what the database raises
    where there is nothing to fall back on.
    """
    now = house().now()
    try:
        overview = with_own_profile(
            lambda s, own: read_overview(s, own.id, now=now, owner_id=own.user_id)
        )
    except SQLAlchemyError as err:
        if not is_outage(err):
            raise
        return _last_seen(err)
    house().guarantee.contexts.put_dashboard_copy(g.context, snapshot.written(overview))
    return overview


def _done(work: Callable[[Session, OwnProfile], Result]) -> Result:
    own = OwnProfile(g.context.mentorado["id"], g.context.user["id"])
    with transaction() as session:
        return work(session, own)


def _last_seen(err: SQLAlchemyError) -> Overview:
    kept = house().guarantee.contexts.get_dashboard_copy(g.context.user["clerk_id"])
    if kept is None:
        raise err
    log.warning("read_only_answer", error=type(err).__name__)
    return snapshot.read_again(kept.overview)
