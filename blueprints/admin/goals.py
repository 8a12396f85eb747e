"""The admin console's goals: of one mentee's month, or of all active mentees."""

import uuid
from collections.abc import Mapping
from typing import Annotated

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import BeforeValidator

from blueprints.admin.jobs import KEY_FIELD, form_key, start_job
from blueprints.admin.mentees import PROFILE_PATH, get_profile
from core.database import transaction
from dashboard import mentoring
from models.admin_job import JobKind
from provisioning.jobs import JobRequest, KeyReusedError
from web.access_policy import admin_required
from web.admin_change import admin_source
from web.admin_labels import FACTS
from web.errors import FieldErrors, InvalidInputError
from web.formatting import month_name
from web.month_input import FORM_INPUT, MONTH, YEAR, parse_typed_number, requested_period
from web.problem_responses import FieldError
from web.request_context import flash_user
from web.services import services
from web.validation import MESSAGES, Amount, Body, validate_model

console_goals = Blueprint("console_goals", __name__, url_prefix="/admin")

GOALS = ("meta_faturamento", "meta_leads", "meta_procedimentos", "meta_posts", "meta_stories")
NOT_REPORTED = "O mentorado ainda não registrou este mês. Mude a meta padrão no perfil."
OTHER_VALUES = "Os valores não são os que foram contados. Confira e confirme de novo."
CONFIRMED_FIELD = "confirmado"
DIGEST_FIELD = "contado"  # the hidden field with the digest of the counted values
MAX_INLINE_PROFILES = 1_000  # that a request changes at once; more are a background job
ALL_GOALS_TITLE = "Metas de todos os mentorados ativos"
MONTH_LENGTH = len("2026-03")
TypedAmount = Annotated[Amount | None, BeforeValidator(parse_typed_number)]


class GoalsForm(Body):
    """Typed goals; omitted ones keep their values."""

    meta_faturamento: TypedAmount = None
    meta_leads: TypedAmount = None
    meta_procedimentos: TypedAmount = None
    meta_posts: TypedAmount = None
    meta_stories: TypedAmount = None


@console_goals.route(
    f"/mentorados{PROFILE_PATH}/metas/<{YEAR}:ano>/<{MONTH}:mes>", methods=["GET", "POST"]
)
@admin_required
def month_goals(mentorado_id: int, ano: int, mes: int) -> ResponseReturnValue:
    """Edit one mentee's goals of a month that they have reported."""
    profile, period = get_profile(mentorado_id), requested_period(ano, mes)
    month = (period.ano, period.mes)
    title = f"Metas de {month_name(mes, ano)}: {profile.nome_completo}"
    if request.method == "GET":
        return _render_form(title)
    try:
        goals = _read_goals()
        with transaction() as session:
            mentoring.set_month_goals(
                session,
                mentorado_id,
                month,
                goals,
                source=admin_source(),
                now=services().now(),
            )
    except InvalidInputError as err:
        return _render_form(title, err.errors)
    except mentoring.MonthNotReportedError:
        return _render_form(title, [FieldError(field="", message=NOT_REPORTED)])
    flash_user("Metas do mês salvas.")
    return redirect(url_for("console_mentees.show", mentorado_id=mentorado_id), code=303)


@console_goals.route("/metas", methods=["GET", "POST"])
@admin_required
def goals_of_all() -> ResponseReturnValue:
    """Set the default goals of all active mentees, or those of a month that they have reported."""
    if request.method == "GET":
        return _render_form(ALL_GOALS_TITLE, is_for_all=True)
    try:
        job_request = JobRequest(
            key=form_key(),
            kind=JobKind.GOALS,
            source=admin_source(),
            options=mentoring.goals_options(_read_goals(), _read_month()),
        )
    except InvalidInputError as err:
        return _render_form(ALL_GOALS_TITLE, err.errors, is_for_all=True)
    with transaction() as session:
        count = mentoring.count_goals_of_all(session, mentoring.month_of(job_request.options))
    if CONFIRMED_FIELD not in request.form:
        return _render_count(job_request, count)
    if request.form.get(DIGEST_FIELD, job_request.digest) != job_request.digest:
        return _render_count(job_request, count, OTHER_VALUES)
    try:
        return start_job(job_request, is_short=count <= MAX_INLINE_PROFILES)
    except KeyReusedError:
        return _render_count(job_request, count, OTHER_VALUES)


def _read_goals() -> dict[str, int]:
    typed = {name: value for name in GOALS if (value := request.form.get(name, "").strip())}
    if not typed:
        raise InvalidInputError([FieldError(field="", message=MESSAGES["nothing"])])
    return validate_model(GoalsForm, typed, FORM_INPUT).model_dump(exclude_unset=True)


def _read_month() -> tuple[int, int] | None:
    """Return the form's month, which browsers send as `2026-03`; None for a blank one."""
    text = request.form.get("mes", "").strip()
    if not text:
        return None
    ano, _, mes = text.partition("-")
    if not (ano.isdecimal() and mes.isdecimal() and text.isascii() and len(text) <= MONTH_LENGTH):
        raise InvalidInputError([FieldError(field="mes", message="Informe um mês como 2026-03.")])
    period = requested_period(int(ano), int(mes))
    return period.ano, period.mes


def _render_count(job_request: JobRequest, count: int, note: str = "") -> ResponseReturnValue:
    """Show how many profiles would change, with a form that changes exactly these, once."""
    errors = [FieldError(field="", message=note)] if note else []
    hidden_fields = {KEY_FIELD: uuid.uuid4(), DIGEST_FIELD: job_request.digest}
    page, _ = _render_form(
        ALL_GOALS_TITLE, errors, is_for_all=True, count=count, hidden_fields=hidden_fields
    )
    return page, 409 if note else 200


def _render_form(
    title: str,
    errors: FieldErrors = (),
    *,
    is_for_all: bool = False,
    count: int | None = None,
    hidden_fields: Mapping[str, object] | None = None,
) -> tuple[str, int]:
    page = render_template(
        "console_goals.html",
        title=title,
        labels={name: FACTS[name] for name in GOALS},
        form=request.form,
        errors=errors,
        is_for_all=is_for_all,
        count=count,
        hidden_fields=hidden_fields or {},
    )
    return page, 422 if errors else 200
