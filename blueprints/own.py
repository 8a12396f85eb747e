"""The dashboard numbers of whoever is signed in."""

import structlog
from flask import g
from sqlalchemy.exc import NoResultFound, SQLAlchemyError

from blueprints.errors import ProfileRequiredError
from blueprints.gate import renew_context
from dashboard import snapshot
from dashboard.overview import Overview, read_overview
from extensions import transaction
from house import house
from provisioning.retry import is_unavailable
from session_context import READY

log = structlog.get_logger(__name__)


def own_overview() -> Overview:
    """Read the overview of the person at the gate; without database, what they saw last.

    Raises ProfileRequiredError for a profile that has gone for good, and what the database raises
    where there is nothing to fall back on.
    """
    try:
        overview = _current()
    except SQLAlchemyError as err:
        if not is_unavailable(err):
            raise
        return _last_seen(err)
    house().guarantee.contexts.keep_last_good(g.context, snapshot.written(overview))
    return overview


def _current() -> Overview:
    """A profile that went away behind the cache's back is ensured anew instead of being missed."""
    try:
        return _read(g.context.mentorado["id"])
    except NoResultFound:
        renew_context()
    if g.context.status != READY:
        raise ProfileRequiredError(g.context.status)
    return _read(g.context.mentorado["id"])


def _last_seen(err: SQLAlchemyError) -> Overview:
    kept = house().guarantee.contexts.last_good(g.context.user["clerk_id"])
    if kept is None:
        raise err
    log.warning("read_only_answer", error=type(err).__name__)
    return snapshot.read_again(kept.overview)


def _read(mentorado_id: int) -> Overview:
    with transaction() as session:
        return read_overview(session, mentorado_id, now=house().now())
