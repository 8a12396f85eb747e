"""The dashboard, and the form for a month's figures."""

from collections.abc import Mapping
from dataclasses import dataclass

from flask import Blueprint, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from dashboard.chart import draw_chart
from dashboard.months import OwnProfile, ReportedMonth, reported_month, save_month
from dashboard.periods import EARLIEST_YEAR, Period, current_period
from web.access_policy import mentorado_required, own_dashboard, public_unlimited
from web.errors import OTHER_ACCOUNT, FieldErrors, HttpError, InvalidInputError
from web.formatting import month_name, number, reais
from web.month_input import FIELDS, MONTH, SEEN_PREFIX, YEAR, changed_fields, requested_period
from web.problem_responses import MAX_FORM_BYTES
from web.request_context import flash_user, own_overview, with_own_profile
from web.services import services
from web.validation import MESSAGES

NOTE_FIELD = "observacoes"
SIGNED_FIELD = "lucro"
MONEY_FIELDS = ("faturamento", SIGNED_FIELD)
LABELS = {
    "faturamento": "Faturamento (R$)",
    "lucro": "Lucro (R$)",
    "leads": "Leads",
    "procedimentos": "Procedimentos",
    "posts_feed": "Posts no feed",
    "stories": "Stories",
    NOTE_FIELD: "Observações",
}
NOT_REPORTED = "sem registro"


@dataclass(frozen=True, slots=True)
class Field:
    """One input of the form, as texts; `seen` is the saved value when the form was opened."""

    name: str
    label: str
    value: str
    seen: str
    previous: str
    error: str | None

    @property
    def may_be_negative(self) -> bool:
        """Whether the input needs a minus sign, which numeric keypads of phones lack."""
        return self.name == SIGNED_FIELD


@dataclass(frozen=True, slots=True)
class FormMonths:
    """The saved month and the one before; None where nothing was reported."""

    saved: ReportedMonth | None
    previous: ReportedMonth | None


def saved_fields(months: FormMonths) -> list[Field]:
    """Return the inputs with the saved values."""
    saved = {name: _saved_text(name, months.saved) for name in LABELS}
    seen = {SEEN_PREFIX + name: text for name, text in saved.items()}
    return typed_fields(months, saved | seen)


def typed_fields(
    months: FormMonths, typed: Mapping[str, str], errors: FieldErrors = ()
) -> list[Field]:
    """Return the inputs with the submitted values and their errors."""
    messages = {error["field"]: error["message"] for error in errors}
    return [
        Field(
            name=name,
            label=label,
            value=typed.get(name, ""),
            seen=typed.get(SEEN_PREFIX + name, ""),
            previous=_previous_text(name, months.previous),
            error=messages.get(name),
        )
        for name, label in LABELS.items()
    ]


def is_blank(typed: Mapping[str, str]) -> bool:
    """Whether all inputs are blank."""
    return not any(typed.get(field, "").strip() for field in FIELDS)


def _saved_text(name: str, month: ReportedMonth | None) -> str:
    if month is None:
        return ""
    return (month.observacoes or "") if name == NOTE_FIELD else number(getattr(month, name))


def _previous_text(name: str, month: ReportedMonth | None) -> str:
    if month is None:
        return NOT_REPORTED
    return reais(getattr(month, name)) if name in MONEY_FIELDS else _saved_text(name, month)


pages = Blueprint("pages", __name__)


@pages.get("/")
@public_unlimited
def home() -> ResponseReturnValue:
    """Redirect to the dashboard, which redirects to the login without a session."""
    return redirect(url_for("pages.dashboard"))


@pages.get("/dashboard")
@own_dashboard
def dashboard() -> ResponseReturnValue:
    """Show the mentee's own dashboard."""
    overview = own_overview()
    return render_template(
        "dashboard.html",
        mentorado=g.context.mentorado,
        overview=overview,
        chart=draw_chart(overview.months) if overview.months else None,
        this_month=current_period(services().now()),
    )


metricas = Blueprint("metricas", __name__, url_prefix=f"/metricas/<{YEAR}:ano>/<{MONTH}:mes>")

OWNER_FIELD = "mentorado"  # the hidden field with the profile's id when the form was opened


@metricas.get("")
@mentorado_required
def fill_in(ano: int, mes: int) -> ResponseReturnValue:
    """Show the form of a month, with the saved values and the month before."""
    return _render_form(requested_period(ano, mes))


@metricas.post("")
@mentorado_required
def save(ano: int, mes: int) -> ResponseReturnValue:
    """Save the changed fields and redirect to the dashboard."""
    request.max_content_length = MAX_FORM_BYTES
    period, now = requested_period(ano, mes), services().now()
    _check_owner()
    try:
        changes = _read_changes()
    except InvalidInputError as err:
        return _render_form(period, err.errors), 422
    if changes:
        with_own_profile(lambda s, own: save_month(s, own, period, changes, now=now))
        flash_user(f"Métricas de {month_name(period.mes, period.ano)} salvas!")
    return redirect(url_for("pages.dashboard"), code=303)


def _check_owner() -> None:
    """Reject a form that was opened before another user signed in on this browser."""
    mentorado_id = str(g.context.mentorado["id"])
    if request.form.get(OWNER_FIELD, mentorado_id) != mentorado_id:
        raise HttpError("conflict", "another user has opened the form", OTHER_ACCOUNT)


def _read_changes() -> dict[str, int | str | None]:
    if is_blank(request.form):
        raise InvalidInputError([{"field": "", "message": MESSAGES["nothing"]}])
    return changed_fields(request.form)


def _render_form(period: Period, errors: FieldErrors = ()) -> str:
    def read(session: Session, own: OwnProfile) -> FormMonths:
        return FormMonths(
            reported_month(session, own, period), reported_month(session, own, period.previous)
        )

    months = with_own_profile(read)
    return render_template(
        "metricas.html",
        period=period,
        earliest_year=EARLIEST_YEAR,
        this_month=current_period(services().now()),
        mentorado=g.context.mentorado,
        fields=typed_fields(months, request.form, errors) if errors else saved_fields(months),
        errors=errors,
        labels=LABELS,
    )
