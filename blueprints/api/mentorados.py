"""Profiles and figures: the user's own, and any for admins."""

from flask import Blueprint, g
from sqlalchemy.exc import IntegrityError
from typing_extensions import TypedDict

from core.database import transaction
from core.types import Timestamp
from dashboard import own_changes
from dashboard.months import read_report, reported_months, save_month
from dashboard.periods import Period
from dashboard.score import OverviewShape, compute_overview
from models import Mentorado
from provisioning.audit import Source
from provisioning.context import READY, MentoradoShape, RequestContext, serialize_mentorado
from provisioning.personal_data import PersonExport
from web.access_policy import mentorado_required, own_dashboard, signed_in
from web.api import PROFILE_CODES, Items, NoContent, api_operation, serialize_row
from web.errors import HttpError, ProfileRequiredError
from web.month_input import MONTH, YEAR, MonthNumber, MonthReport, Year, requested_period
from web.own_data import own_export, own_report, with_own_profile
from web.services import services
from web.validation import ID_CONVERTER, MAX_PAGE_SIZE, Body, Name

mentorados = Blueprint("mentorados", __name__, url_prefix="/api/mentorados")


class OwnProfileEdit(Body):
    """What mentees may change about their profile."""

    nome_completo: Name


class MonthShape(TypedDict):
    """A reported month, under the names of its columns."""

    ano: int
    mes: int
    faturamento: int
    lucro: int
    posts_feed: int
    stories: int
    leads: int
    procedimentos: int
    observacoes: str | None
    updated_at: Timestamp


@mentorados.get("/me")
@mentorado_required
@api_operation()
def me() -> MentoradoShape:
    """The signed-in user's profile."""
    profile: MentoradoShape = g.context.mentorado
    return profile


@mentorados.patch("/me")
@mentorado_required
@api_operation()
def rename(body: OwnProfileEdit) -> MentoradoShape:
    """Write the signed-in user's name."""
    return rename_own_profile(body.nome_completo, "api")


@mentorados.get("/me/overview")
@own_dashboard
@api_operation()
def overview() -> OverviewShape:
    """The figures of the signed-in user's dashboard."""
    stored = own_report()
    return compute_overview(stored.report, now=stored.as_of)


@mentorados.get("/me/metricas")
@mentorado_required
@api_operation()
def metricas() -> Items[MonthShape]:
    """The reported months, newest first."""
    months = with_own_profile(lambda s, own: reported_months(s, own, limit=MAX_PAGE_SIZE))
    return {"items": [serialize_row(MonthShape, month) for month in months]}


@mentorados.put(f"/me/metricas/<{YEAR}:ano>/<{MONTH}:mes>")
@mentorado_required
@api_operation()
def report(ano: Year, mes: MonthNumber, body: MonthReport) -> MonthShape:
    """Write the given fields of a month; omitted ones keep their values."""
    period, now, changes = requested_period(ano, mes), services().now(), body.changes()
    month = with_own_profile(lambda s, own: save_month(s, own, period, changes, now=now))
    return serialize_row(MonthShape, month)


@mentorados.delete(f"/me/metricas/<{YEAR}:ano>/<{MONTH}:mes>")
@mentorado_required
@api_operation("not_found", "conflict")
def delete_month(ano: Year, mes: MonthNumber) -> NoContent:
    """Delete a month; the mentee can restore it for thirty days."""
    delete_own_month(Period(ano, mes), "api")
    return "", 204


@mentorados.get("/me/export")
@mentorado_required
@api_operation()
def export() -> PersonExport:
    """Everything that is kept about the signed-in user."""
    return own_export()


@mentorados.get(f"/<{ID_CONVERTER}:mentorado_id>")
@signed_in
@api_operation("forbidden", *PROFILE_CODES)
def one(mentorado_id: int) -> MentoradoShape:
    """One profile, for its owner and for admins."""
    _check_may_see(mentorado_id)
    return load_profile(mentorado_id)


@mentorados.get(f"/<{ID_CONVERTER}:mentorado_id>/overview")
@signed_in
@api_operation("forbidden", *PROFILE_CODES)
def overview_of_one(mentorado_id: int) -> OverviewShape:
    """The figures of one dashboard, for its owner and for admins."""
    _check_may_see(mentorado_id)
    with transaction() as session:
        session.get_one(Mentorado, mentorado_id)
        report = read_report(session, mentorado_id)
    return compute_overview(report, now=services().now())


def load_profile(mentorado_id: int) -> MentoradoShape:
    """Return a profile as JSON values; raises NoResultFound."""
    with transaction() as session:
        return serialize_mentorado(session.get_one(Mentorado, mentorado_id))


def _check_may_see(mentorado_id: int) -> None:
    context: RequestContext = g.context
    if context.is_admin:
        return
    if context.status != READY:
        raise ProfileRequiredError(context.status)
    if context.mentorado is None or context.mentorado["id"] != mentorado_id:
        raise HttpError("forbidden", "the profile of another user")


def rename_own_profile(name: str, channel: str) -> MentoradoShape:
    """Write the signed-in user's name; the user's next request sees it in every process."""
    now, source = services().now(), Source(channel, g.request_id)
    renamed = with_own_profile(
        lambda s, own: own_changes.rename(s, own, name, source=source, now=now)
    )
    services().provisioning.contexts.publish([g.context.user["clerk_id"]])
    return serialize_mentorado(renamed)


def delete_own_month(period: Period, channel: str, *, seen: str | None = None) -> None:
    """Delete a month of the signed-in user; `seen` as in `own_changes.delete_month`.

    Raises HttpError `not_found` if it was not reported, `conflict` if rows of another program refer
    to it, and MonthChangedError.
    """
    now, source = services().now(), Source(channel, g.request_id)
    try:
        was_reported = with_own_profile(
            lambda s, own: own_changes.delete_month(
                s, own, period, source=source, now=now, seen=seen
            )
        )
    except IntegrityError as err:
        raise HttpError("conflict", "other rows refer to the month") from err
    if not was_reported:
        raise HttpError("not_found", f"{period} is not reported")
