"""A mentee's profile and numbers as JSON: their own, and for admins anybody's."""

from flask import Blueprint, g
from typing_extensions import TypedDict

from core.database import transaction
from core.types import Moment
from dashboard.months import ReportedMonth, reported_months, save_month
from dashboard.overview import OverviewShape, read_overview, serialize_overview
from models import Mentorado
from provisioning.context import READY, MentoradoShape, RequestContext, iso_utc, serialize_mentorado
from web.access_policy import mentorado_required, own_dashboard, signed_in
from web.api import api_operation
from web.errors import ForbiddenError, NotFoundError, ProfileRequiredError
from web.month_input import MONTH, YEAR, MonthNumber, MonthReport, Year, requested_period
from web.openapi import PROFILE_CODES
from web.request_context import own_overview, with_own_profile
from web.services import services
from web.validation import ID, LONGEST_LIST, Items

mentorados = Blueprint("mentorados", __name__, url_prefix="/api/mentorados")


class MonthShape(TypedDict):
    """A reported month as the API shows it, under the names of its columns."""

    ano: int
    mes: int
    faturamento: int
    lucro: int
    posts_feed: int
    stories: int
    leads: int
    procedimentos: int
    observacoes: str | None
    updated_at: Moment


@mentorados.get("/me")
@mentorado_required
@api_operation()
def me() -> MentoradoShape:
    """The profile of whoever is signed in."""
    profile: MentoradoShape = g.context.mentorado
    return profile


@mentorados.get("/me/overview")
@own_dashboard
@api_operation()
def overview() -> OverviewShape:
    """The numbers of the own dashboard."""
    return serialize_overview(own_overview())


@mentorados.get("/me/metricas")
@mentorado_required
@api_operation()
def metricas() -> Items[MonthShape]:
    """The months that were reported, the newest first."""
    months = with_own_profile(lambda s, own: reported_months(s, own, limit=LONGEST_LIST))
    return {"items": [serialize_month(month) for month in months]}


@mentorados.put(f"/me/metricas/<{YEAR}:ano>/<{MONTH}:mes>")
@mentorado_required
@api_operation()
def report(ano: Year, mes: MonthNumber, wanted: MonthReport) -> MonthShape:
    """Write the given fields of a month; the others stay."""
    period, now, changes = requested_period(ano, mes), services().now(), wanted.changes()
    month = with_own_profile(lambda s, own: save_month(s, own, period, changes, now=now))
    return serialize_month(month)


@mentorados.get(f"/<{ID}:mentorado_id>")
@signed_in
@api_operation("forbidden", *PROFILE_CODES)
def one(mentorado_id: int) -> MentoradoShape:
    """A profile, for its owner and for admins."""
    _check_may_see(mentorado_id)
    with transaction() as session:
        found = session.get(Mentorado, mentorado_id)
    if found is None:
        raise NotFoundError("no such mentorado")
    return serialize_mentorado(found)


@mentorados.get(f"/<{ID}:mentorado_id>/overview")
@signed_in
@api_operation("forbidden", *PROFILE_CODES)
def overview_of_one(mentorado_id: int) -> OverviewShape:
    """The numbers of a dashboard, for its owner and for admins."""
    _check_may_see(mentorado_id)
    with transaction() as session:
        if session.get(Mentorado, mentorado_id) is None:
            raise NotFoundError("no such mentorado")
        found = read_overview(session, mentorado_id, now=services().now())
    return serialize_overview(found)


def serialize_month(month: ReportedMonth) -> MonthShape:
    """The month, ready to be told."""
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
    context: RequestContext = g.context
    if context.is_admin:
        return
    if context.status != READY:
        raise ProfileRequiredError(context.status)
    if context.mentorado is None or context.mentorado["id"] != mentorado_id:
        raise ForbiddenError("somebody else's")
