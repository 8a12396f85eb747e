"""The reported months of a mentee: the form, deleting and restoring, the list and its CSV."""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from blueprints.api.mentorados import delete_own_month
from dashboard import own_changes
from dashboard.months import reported_months, save_month
from dashboard.own_changes import MonthChangedError, MonthExistsError
from dashboard.periods import EARLIEST_YEAR, Period, current_period
from dashboard.score import MONEY
from models import MetricaMensal
from provisioning.audit import Source
from web import csv_export
from web.access_policy import mentorado_required
from web.errors import OTHER_ACCOUNT, FieldErrors, HttpError, InvalidInputError
from web.formatting import month_name, number, reais
from web.month_input import (
    FIELDS,
    MONTH,
    SEEN_PREFIX,
    YEAR,
    changed_fields,
    requested_period,
    rounded_amounts,
)
from web.own_data import with_own_profile
from web.problem_responses import MAX_FORM_BYTES
from web.request_context import flash_user
from web.services import services
from web.validation import MESSAGES

NOTE_FIELD = "observacoes"
LABELS = {
    "faturamento": "Faturamento (R$)",
    "lucro": "Lucro (R$)",
    "leads": "Leads",
    "procedimentos": "Procedimentos",
    "posts_feed": "Posts no feed",
    "stories": "Stories",
    NOTE_FIELD: "Observações",
}
SHORT_LABELS = LABELS | {"faturamento": "Faturamento", "lucro": "Lucro"}
MAX_MONTHS = 1_200  # of a century
CSV_COLUMNS = {"ano": "ano", "mes": "mês", **{n: t.lower() for n, t in SHORT_LABELS.items()}}


def _form_fields(
    saved: MetricaMensal | None, previous: MetricaMensal | None, errors: FieldErrors
) -> list[dict[str, str | None]]:
    """Return the inputs with the saved values, or after errors with the submitted ones.

    `seen` is the saved value when the form was opened.
    """
    texts = {name: _saved_text(name, saved) for name in LABELS}
    seen = {SEEN_PREFIX + name: text for name, text in texts.items()}
    typed = request.form if errors else texts | seen
    messages = {error["field"]: error["message"] for error in errors}
    return [
        {
            "name": name,
            "label": label,
            "value": typed.get(name, ""),
            "seen": typed.get(SEEN_PREFIX + name, ""),
            "previous": _value_text(name, previous),
            "error": messages.get(name),
        }
        for name, label in LABELS.items()
    ]


def _saved_text(name: str, month: MetricaMensal | None) -> str:
    """Return the value for an input; blank for a figure that was not given yet."""
    if month is None or name in month.missing:
        return ""
    return (month.observacoes or "") if name == NOTE_FIELD else number(getattr(month, name))


def _value_text(name: str, month: MetricaMensal | None) -> str:
    if month is not None and name in MONEY and name not in month.missing:
        return reais(getattr(month, name))
    return _saved_text(name, month)


metricas = Blueprint("metricas", __name__, url_prefix=f"/metricas/<{YEAR}:ano>/<{MONTH}:mes>")
own_months = Blueprint("own_months", __name__, url_prefix="/perfil")

OWNER_FIELD = "mentorado"  # the hidden field with the profile's id when the form was opened
CHANGE_FIELD = "visto"  # the hidden field with the time of the month's last change


@metricas.get("")
@mentorado_required
def fill_in(ano: int, mes: int) -> ResponseReturnValue:
    """Show the form of a month, with the saved values and the month before."""
    return _render_form(requested_period(ano, mes))


@metricas.post("")
@mentorado_required
def save(ano: int, mes: int) -> ResponseReturnValue:
    """Save the changed fields and redirect to the dashboard of the month."""
    request.max_content_length = MAX_FORM_BYTES
    period, now = requested_period(ano, mes), services().now()
    _check_owner()
    try:
        changes = _read_changes()
    except InvalidInputError as err:
        return _render_form(period, err.errors), 422
    if changes:
        with_own_profile(lambda s, own: save_month(s, own, period, changes, now=now))
    flash_user(_saved_message(period, changes))
    is_current = period == current_period(now)
    return redirect(url_for("pages.dashboard", mes=None if is_current else str(period)), code=303)


@metricas.get("/apagar")
@mentorado_required
def confirm_deletion(ano: int, mes: int) -> ResponseReturnValue:
    """Show the figures of a month before it is deleted."""
    return _render_deletion(requested_period(ano, mes))


@metricas.post("/apagar")
@mentorado_required
def delete(ano: int, mes: int) -> ResponseReturnValue:
    """Delete a month, which can be restored for thirty days."""
    request.max_content_length = MAX_FORM_BYTES
    period = requested_period(ano, mes)
    _check_owner()
    try:
        delete_own_month(period, "page", seen=request.form.get(CHANGE_FIELD))
    except MonthChangedError:
        return _render_deletion(period, has_changed=True), 409
    name = month_name(period.mes, period.ano)
    flash_user(f"Apagamos {name}. Foi engano? Restaure abaixo, em até 30 dias.")
    return redirect(url_for("own_months.index"), code=303)


@metricas.post("/restaurar")
@mentorado_required
def restore(ano: int, mes: int) -> ResponseReturnValue:
    """Restore a deleted month and redirect to its dashboard."""
    period, now = requested_period(ano, mes), services().now()
    source = Source("page", g.request_id)
    name = month_name(period.mes, period.ano)
    try:
        is_restored = with_own_profile(
            lambda s, own: own_changes.restore_month(s, own, period, source=source, now=now)
        )
    except MonthExistsError:
        flash_user(f"Você já registrou {name} de novo. Apague esse registro antes de restaurar.")
        return redirect(url_for("own_months.index"), code=303)
    if not is_restored:
        raise HttpError("not_found", f"{period} is not in the archive")
    flash_user(f"Restauramos {name}.")
    return redirect(url_for("pages.dashboard", mes=str(period)), code=303)


@own_months.get("/meses")
@mentorado_required
def index() -> ResponseReturnValue:
    """List every reported month, and the deleted ones that can be restored."""
    now = services().now()
    months, deleted = with_own_profile(
        lambda s, own: (
            reported_months(s, own, limit=MAX_MONTHS),
            own_changes.deleted_months(s, own, now=now),
        )
    )
    return render_template(
        "months.html", mentorado=g.context.mentorado, months=months, deleted=deleted
    )


@own_months.get("/meses.csv")
@mentorado_required
def csv_file() -> ResponseReturnValue:
    """Return every reported month as CSV, newest first; figures not given are blank."""
    months = with_own_profile(lambda s, own: reported_months(s, own, limit=MAX_MONTHS))
    rows = [
        [None if name in month.missing else getattr(month, name) for name in CSV_COLUMNS]
        for month in months
    ]
    return csv_export.csv_file("meses.csv", [list(CSV_COLUMNS.values()), *rows])


def _check_owner() -> None:
    """Reject a form that was opened before another user signed in on this browser."""
    mentorado_id = str(g.context.mentorado["id"])
    if request.form.get(OWNER_FIELD, mentorado_id) != mentorado_id:
        raise HttpError("conflict", "another user has opened the form", [OTHER_ACCOUNT])


def _read_changes() -> dict[str, Any]:
    if not any(request.form.get(field, "").strip() for field in FIELDS):
        raise InvalidInputError([{"field": "", "message": MESSAGES["nothing"]}])
    return changed_fields(request.form)


def _saved_message(period: Period, changes: Mapping[str, Any]) -> str:
    """Return what was saved: each changed figure with its value, and which ones were rounded."""
    name = month_name(period.mes, period.ano)
    if not changes:
        return f"Nada mudou: as métricas de {name} já estavam salvas assim."
    rounded = rounded_amounts(request.form, changes)
    texts = []
    for field, label in SHORT_LABELS.items():
        if field == NOTE_FIELD or field not in changes:
            continue
        value = reais(changes[field]) if field in MONEY else number(changes[field])
        texts.append(f"{label}: {value}{' (arredondado)' if field in rounded else ''}")
    if NOTE_FIELD in changes:
        texts.append("Observações")
    return f"Métricas de {name} salvas! {'; '.join(texts)}."


def _read_months(period: Period) -> tuple[MetricaMensal | None, MetricaMensal | None]:
    """Return the saved month and the one before; None where nothing was reported."""
    months = with_own_profile(lambda s, own: reported_months(s, own, period, period.previous))
    found = {Period(month.ano, month.mes): month for month in months}
    return found.get(period), found.get(period.previous)


def _render_form(period: Period, errors: FieldErrors = ()) -> str:
    saved, previous = _read_months(period)
    return render_template(
        "metricas.html",
        period=period,
        earliest_year=EARLIEST_YEAR,
        this_month=current_period(services().now()),
        mentorado=g.context.mentorado,
        saved=saved,
        previous=previous,
        fields=_form_fields(saved, previous, errors),
        errors=errors,
        labels=LABELS,
    )


def _render_deletion(period: Period, *, has_changed: bool = False) -> str:
    month, _ = _read_months(period)
    if month is None:
        raise HttpError("not_found", f"{period} is not reported")
    return render_template(
        "delete_month.html",
        period=period,
        mentorado=g.context.mentorado,
        month=month,
        values=[(SHORT_LABELS[name], _value_text(name, month)) for name in LABELS],
        seen=month.updated_at.isoformat(),
        has_changed=has_changed,
    )
