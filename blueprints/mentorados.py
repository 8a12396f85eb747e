"""A mentee's own profile and numbers as JSON."""

from flask import Blueprint, g, jsonify
from flask.typing import ResponseReturnValue

from blueprints.own import own_overview
from blueprints.stance import mentorado_required
from dashboard.overview import overview_shape

mentorados = Blueprint("mentorados", __name__, url_prefix="/api/mentorados")


@mentorados.get("/me")
@mentorado_required
def me() -> ResponseReturnValue:
    """The profile of whoever is signed in."""
    return jsonify(g.context.mentorado)


@mentorados.get("/me/overview")
@mentorado_required
def overview() -> ResponseReturnValue:
    """The numbers of the own dashboard (CONTRACT section 4.4)."""
    return jsonify(overview_shape(own_overview()))
