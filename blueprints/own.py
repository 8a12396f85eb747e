"""The dashboard numbers of whoever is signed in."""

from flask import g
from sqlalchemy.exc import NoResultFound

from blueprints.errors import ProfileRequiredError
from blueprints.gate import renew_context
from dashboard.overview import Overview, read_overview
from extensions import transaction
from house import house
from session_context import READY


def own_overview() -> Overview:
    """Read the overview of the person at the gate.

    A profile that went away behind the cache's back is ensured anew instead of being missed. Raises
    ProfileRequiredError when that leaves the person without one.
    """
    try:
        return _read(g.context.mentorado["id"])
    except NoResultFound:
        renew_context()
    if g.context.status != READY:
        raise ProfileRequiredError(g.context.status)
    return _read(g.context.mentorado["id"])


def _read(mentorado_id: int) -> Overview:
    with transaction() as session:
        return read_overview(session, mentorado_id, now=house().now())
