"""The mentee's dashboard, and the marks that a mentee makes on it."""

from datetime import datetime

from flask import Blueprint, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from dashboard.chart import draw_chart
from dashboard.month_view import closing_task, count_streak, view_month
from dashboard.months import OwnProfile
from dashboard.own_changes import confirm_goals, mark_feedback
from dashboard.periods import Period, PeriodError, current_period, parse_period
from provisioning.context import NOT_REQUIRED
from provisioning.profiles import DEFAULT_NAME
from web.access_policy import mentorado_required, own_dashboard, signed_in
from web.errors import HttpError
from web.mentee_texts import address_advice
from web.month_input import MONTH, YEAR, MonthQuery, requested_period, selected_measure
from web.own_data import own_report, with_own_profile
from web.problem_responses import MAX_FORM_BYTES
from web.request_context import flash_user
from web.services import services
from web.validation import read_query

pages = Blueprint("pages", __name__)


@pages.get("/")
@signed_in
def home() -> ResponseReturnValue:
    """Redirect to the dashboard; an admin without a profile to the admin console."""
    is_admin = g.context.status == NOT_REQUIRED
    return redirect(url_for("console.overview" if is_admin else "pages.dashboard"))


@pages.get("/dashboard")
@own_dashboard
def dashboard() -> ResponseReturnValue:
    """Show the mentee's own dashboard: the newest reported month, or the one of `mes`."""
    period = read_query(MonthQuery).mes if "mes" in request.args else None
    stored = own_report(period)
    report, now = stored.report, services().now()
    joined_at = datetime.fromisoformat(g.context.mentorado["created_at"])
    return render_template(
        "dashboard.html",
        mentorado=g.context.mentorado,
        report=report,
        as_of=stored.as_of,
        view=view_month(report, period, now=now),
        chart=draw_chart(report.months, selected_measure()) if report.months else None,
        is_unnamed=g.context.mentorado["nome_completo"] == DEFAULT_NAME,
        selected=period,
        this_month=current_period(now),
        # Only the newest months say what is due and how long the streak is.
        closing=None if period else closing_task(report, joined_at, now=now),
        streak=0 if period else count_streak(report.months, now=now),
        advice=address_advice(report.address),
    )


@pages.post("/metas/vistas")
@mentorado_required
def confirm_changed_goals() -> ResponseReturnValue:
    """End the announcement that the team has changed the goals."""
    with_own_profile(confirm_goals)
    return redirect(url_for("pages.dashboard"), code=303)


@pages.post(f"/feedback/<{YEAR}:ano>/<{MONTH}:mes>/lido")
@mentorado_required
def mark_as_read(ano: int, mes: int) -> ResponseReturnValue:
    """Mark the feedback on a month as read."""
    period = requested_period(ano, mes)
    _mark_feedback(period, read_at=services().now())
    flash_user("Feedback marcado como lido.")
    return _back_to_dashboard("feedback")


@pages.post(f"/feedback/<{YEAR}:ano>/<{MONTH}:mes>/foco")
@mentorado_required
def tick_focus(ano: int, mes: int) -> ResponseReturnValue:
    """Mark the focus of the feedback on a month as done, or as open with `feito=nao`."""
    request.max_content_length = MAX_FORM_BYTES
    period, now = requested_period(ano, mes), services().now()
    is_done = request.form.get("feito") != "nao"
    _mark_feedback(period, focus_done_at=now if is_done else None)
    flash_user("Foco do mês concluído. Parabéns!" if is_done else "Foco do mês reaberto.")
    return _back_to_dashboard("foco")


def _mark_feedback(period: Period, **values: datetime | None) -> None:
    def mark(session: Session, own: OwnProfile) -> bool:
        return mark_feedback(session, own, period, values)

    if not with_own_profile(mark):
        raise HttpError("not_found", f"no feedback on {period}")


def _back_to_dashboard(anchor: str) -> ResponseReturnValue:
    """Redirect to the month from which the form was sent, or to the newest one."""
    request.max_content_length = MAX_FORM_BYTES
    try:
        shown = str(parse_period(request.form.get("mes", ""), now=services().now()))
    except PeriodError:
        shown = None
    return redirect(url_for("pages.dashboard", mes=shown, _anchor=anchor), code=303)
