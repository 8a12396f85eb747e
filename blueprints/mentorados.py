"""A mentee's profile and numbers as JSON: their own, and for admins anybody's."""

from typing import Any

from flask import Blueprint, g, jsonify
from flask.typing import ResponseReturnValue

from blueprints.bodies import read_body
from blueprints.errors import ForbiddenError, NotFoundError, ProfileRequiredError
from blueprints.lists import ID, LONGEST_LIST
from blueprints.month_bodies import MONTH, YEAR, MonthReport, asked_period
from blueprints.own import own_overview, with_own_profile
from blueprints.stance import mentorado_required, signed_in
from dashboard.overview import overview_shape, read_overview
from dashboard.reporting import ReportedMonth, reported_months, save_month
from extensions import transaction
from house import house
from models import Mentorado
from session_context import READY, Context, iso_utc, mentorado_shape

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


@mentorados.get("/me/metricas")
@mentorado_required
def metricas() -> ResponseReturnValue:
    """The months that were reported, the newest first."""
    months = with_own_profile(lambda s, own: reported_months(s, own, limit=LONGEST_LIST))
    return {"items": [month_shape(month) for month in months]}


@mentorados.put(f"/me/metricas/<{YEAR}:ano>/<{MONTH}:mes>")
@mentorado_required
def report(ano: int, mes: int) -> ResponseReturnValue:
    """Write the given fields of a month; the others stay."""
    period, now = asked_period(ano, mes), house().now()
    changes = read_body(MonthReport).changes()
    month = with_own_profile(lambda s, own: save_month(s, own, period, changes, now=now))
    return month_shape(month)


@mentorados.get(f"/<{ID}:mentorado_id>")
@signed_in
def one(mentorado_id: int) -> ResponseReturnValue:
    """A profile, for its owner and for admins."""
    _check_may_see(mentorado_id)
    with transaction() as session:
        found = session.get(Mentorado, mentorado_id)
    if found is None:
        raise NotFoundError("no such mentorado")
    return jsonify(mentorado_shape(found))


@mentorados.get(f"/<{ID}:mentorado_id>/overview")
@signed_in
def overview_of_one(mentorado_id: int) -> ResponseReturnValue:
    """The numbers of a dashboard, for its owner and for admins."""
    _check_may_see(mentorado_id)
    with transaction() as session:
        if session.get(Mentorado, mentorado_id) is None:
            raise NotFoundError("no such mentorado")
        found = read_overview(session, mentorado_id, now=house().now())
    return jsonify(overview_shape(found))


def month_shape(month: ReportedMonth) -> dict[str, Any]:
    """A reported month as the API shows it, under the names of its columns."""
    return {
        "ano": month.ano,
        "mes": month.mes,
        "faturamento": month.faturamento,
        "lucro": month.lucro,
        "posts_feed": month.posts_feed,
        "stories": month.stories,
        "leads": month.leads,
        "procedimentos": month.procedimentos,
        "observacoes": month.observacoes,
        "updated_at": iso_utc(month.updated_at),
    }


def _check_may_see(mentorado_id: int) -> None:
    context: Context = g.context
    if context.is_admin:
        return
    if context.status != READY:
        raise ProfileRequiredError(context.status)
    if context.mentorado is None or context.mentorado["id"] != mentorado_id:
        raise ForbiddenError("somebody else's")
