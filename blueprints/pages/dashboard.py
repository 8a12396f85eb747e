"""What the form of a month shows: what is saved or was typed, the month before, what is wrong."""

from collections.abc import Mapping
from dataclasses import dataclass

from flask import Blueprint, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from dashboard.chart import draw_chart
from dashboard.months import OwnProfile, ReportedMonth, reported_month, save_month
from dashboard.periods import EARLIEST_YEAR, Period, current_period
from web.access_policy import mentorado_required, own_dashboard, public_unlimited
from web.errors import Errors, InvalidInputError, OtherUserError
from web.formatting import month_name, number, reais
from web.month_input import FIELDS, MONTH, SEEN, YEAR, changes_of, requested_period
from web.problem_responses import LARGEST_FORM_BYTES
from web.request_context import flash_user, own_overview, with_own_profile
from web.services import services
from web.validation import MESSAGES

NOTE = "observacoes"
PROFIT = "lucro"
MONEY = ("faturamento", PROFIT)
LABELS = {
    "faturamento": "Faturamento (R$)",
    "lucro": "Lucro (R$)",
    "leads": "Leads",
    "procedimentos": "Procedimentos",
    "posts_feed": "Posts no feed",
    "stories": "Stories",
    NOTE: "Observações",
}
NOT_REPORTED = "sem registro"


@dataclass(frozen=True, slots=True)
class Field:
    """One input, as texts; `seen` is what was saved when the form was opened."""

    name: str
    label: str
    value: str
    seen: str
    before: str
    error: str | None

    @property
    def may_be_negative(self) -> bool:
        """Whether a minus sign must be typable, which numeric keypads of phones do not have."""
        return self.name == PROFIT


@dataclass(frozen=True, slots=True)
class Shown:
    """The two months that the form shows, each None where nothing was reported."""

    saved: ReportedMonth | None
    before: ReportedMonth | None


def fresh_fields(shown: Shown) -> list[Field]:
    """The inputs as they are when the form is opened."""
    saved = {name: _text(name, shown.saved) for name in LABELS}
    seen = {SEEN + name: text for name, text in saved.items()}
    return typed_fields(shown, saved | seen)


def typed_fields(shown: Shown, typed: Mapping[str, str], errors: Errors = ()) -> list[Field]:
    """The inputs as they came back, each with what is wrong about it."""
    told = {error["field"]: error["message"] for error in errors}
    return [
        Field(
            name=name,
            label=label,
            value=typed.get(name, ""),
            seen=typed.get(SEEN + name, ""),
            before=_text_before(name, shown.before),
            error=told.get(name),
        )
        for name, label in LABELS.items()
    ]


def is_blank(typed: Mapping[str, str]) -> bool:
    """Whether there is nothing in any input."""
    return not any(typed.get(field, "").strip() for field in FIELDS)


def _text(name: str, month: ReportedMonth | None) -> str:
    if month is None:
        return ""
    return (month.observacoes or "") if name == NOTE else number(getattr(month, name))


def _text_before(name: str, month: ReportedMonth | None) -> str:
    if month is None:
        return NOT_REPORTED
    return reais(getattr(month, name)) if name in MONEY else _text(name, month)


pages = Blueprint("pages", __name__)


@pages.get("/")
@public_unlimited
def home() -> ResponseReturnValue:
    """To the dashboard; whoever has no session is sent on from there."""
    return redirect(url_for("pages.dashboard"))


@pages.get("/dashboard")
@own_dashboard
def dashboard() -> ResponseReturnValue:
    """The mentee's own dashboard, usable at the very first request."""
    overview = own_overview()
    return render_template(
        "dashboard.html",
        mentorado=g.context.mentorado,
        overview=overview,
        chart=draw_chart(overview.months) if overview.months else None,
        this_month=current_period(services().now()),
    )


metricas = Blueprint("metricas", __name__, url_prefix=f"/metricas/<{YEAR}:ano>/<{MONTH}:mes>")

OWNER = "mentorado"  # the hidden field that tells whose form it was when it was opened


@metricas.get("")
@mentorado_required
def fill_in(ano: int, mes: int) -> ResponseReturnValue:
    """The form of a month, with what is saved and with the month before."""
    return _form(requested_period(ano, mes))


@metricas.post("")
@mentorado_required
def save(ano: int, mes: int) -> ResponseReturnValue:
    """Save what the person has changed, and go on to the dashboard."""
    request.max_content_length = LARGEST_FORM_BYTES
    period, now = requested_period(ano, mes), services().now()
    _check_owner()
    try:
        changes = _changes()
    except InvalidInputError as err:
        return _form(period, err.errors), 422
    if changes:
        with_own_profile(lambda s, own: save_month(s, own, period, changes, now=now))
        flash_user(f"Métricas de {month_name(period.mes, period.ano)} salvas!")
    return redirect(url_for("pages.dashboard"), code=303)


def _check_owner() -> None:
    """A form that was opened before somebody else signed in must not write into their profile."""
    own = str(g.context.mentorado["id"])
    if request.form.get(OWNER, own) != own:
        raise OtherUserError


def _changes() -> dict[str, int | str | None]:
    if is_blank(request.form):
        raise InvalidInputError([{"field": "", "message": MESSAGES["nothing"]}])
    return changes_of(request.form)


def _form(period: Period, errors: Errors = ()) -> str:
    def read(session: Session, own: OwnProfile) -> Shown:
        return Shown(
            reported_month(session, own, period), reported_month(session, own, period.previous)
        )

    shown = with_own_profile(read)
    return render_template(
        "metricas.html",
        period=period,
        earliest_year=EARLIEST_YEAR,
        this_month=current_period(services().now()),
        mentorado=g.context.mentorado,
        fields=typed_fields(shown, request.form, errors) if errors else fresh_fields(shown),
        errors=errors,
        labels=LABELS,
    )
