"""The form in which a mentee reports a month."""

from flask import Blueprint, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from blueprints.answers import LARGEST_FORM_BYTES
from blueprints.bodies import MESSAGES
from blueprints.errors import Errors, InvalidInputError, OtherPersonError
from blueprints.month_bodies import MONTH, YEAR, asked_period, changes_of
from blueprints.month_form import LABELS, Shown, fresh_fields, is_blank, typed_fields
from blueprints.own import with_own_profile
from blueprints.stance import mentorado_required
from blueprints.toasts import tell
from blueprints.words import month_name
from dashboard.months import OwnProfile
from dashboard.periods import EARLIEST_YEAR, Period, current_period
from dashboard.reporting import reported_month, save_month
from house import house

metricas = Blueprint("metricas", __name__, url_prefix=f"/metricas/<{YEAR}:ano>/<{MONTH}:mes>")

OWNER = "mentorado"  # the hidden field that tells whose form it was when it was opened


@metricas.get("")
@mentorado_required
def fill_in(ano: int, mes: int) -> ResponseReturnValue:
    """The form of a month, with what is saved and with the month before."""
    return _form(asked_period(ano, mes))


@metricas.post("")
@mentorado_required
def save(ano: int, mes: int) -> ResponseReturnValue:
    """Save what the person has changed, and go on to the dashboard."""
    request.max_content_length = LARGEST_FORM_BYTES
    period, now = asked_period(ano, mes), house().now()
    _check_owner()
    try:
        changes = _changes()
    except InvalidInputError as err:
        return _form(period, err.errors), 422
    if changes:
        with_own_profile(lambda s, own: save_month(s, own, period, changes, now=now))
        tell(f"Métricas de {month_name(period.mes, period.ano)} salvas!")
    return redirect(url_for("pages.dashboard"), code=303)


def _check_owner() -> None:
    """A form that was opened before somebody else signed in must not write into their profile."""
    own = str(g.context.mentorado["id"])
    if request.form.get(OWNER, own) != own:
        raise OtherPersonError


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
        this_month=current_period(house().now()),
        mentorado=g.context.mentorado,
        fields=typed_fields(shown, request.form, errors) if errors else fresh_fields(shown),
        errors=errors,
        labels=LABELS,
    )
