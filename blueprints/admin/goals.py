"""The admin console's goals: of one mentee's month, or of all active mentees."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import BeforeValidator

from blueprints.admin.jobs import CONFIRMED_FIELD, KEY_FIELD, form_key, start_job
from blueprints.admin.mentees import PROFILE_PATH, get_profile
from core.database import transaction
from dashboard import mass_goals, mentoring
from dashboard.periods import Period
from models import Mentorado
from models.admin_job import JobKind
from provisioning.jobs import JobRequest, KeyReusedError
from web.access_policy import admin_required
from web.admin_change import admin_source
from web.admin_labels import FACTS
from web.errors import FieldError, FieldErrors, InvalidInputError
from web.flashes import flash_user
from web.month_input import (
    FORM_INPUT,
    MONTH,
    YEAR,
    MonthQuery,
    parse_typed_number,
    requested_period,
)
from web.services import services
from web.validation import MESSAGES, Amount, Body, read_query, validate_model

console_goals = Blueprint("console_goals", __name__, url_prefix="/admin")

GOALS = ("meta_faturamento", "meta_leads", "meta_procedimentos", "meta_posts", "meta_stories")
NOT_REPORTED = "O mentorado ainda não registrou este mês. Mude a meta padrão no perfil."
OTHER_VALUES = "Os valores não são os que foram contados. Confira e confirme de novo."
DIGEST_FIELD = "contado"  # the hidden field with the digest of the counted values
MAX_INLINE_PROFILES = 1_000  # that a request changes at once; more are a background job
MOST_SHOWN = 50  # of those who would change
TypedAmount = Annotated[Amount | None, BeforeValidator(parse_typed_number)]


class GoalsForm(Body):
    """Typed goals; omitted ones keep their values."""

    meta_faturamento: TypedAmount = None
    meta_leads: TypedAmount = None
    meta_procedimentos: TypedAmount = None
    meta_posts: TypedAmount = None
    meta_stories: TypedAmount = None


@dataclass(frozen=True, slots=True)
class GoalsPreview:
    """Goals for all, how many profiles they change, and the first of these."""

    job_request: JobRequest
    count: int
    changes: list[mass_goals.AffectedProfile]


@console_goals.route(
    f"/mentorados{PROFILE_PATH}/metas/<{YEAR}:ano>/<{MONTH}:mes>", methods=["GET", "POST"]
)
@admin_required
def month_goals(mentorado_id: int, ano: int, mes: int) -> ResponseReturnValue:
    """Edit one mentee's goals of a month that they have reported."""
    profile, period = get_profile(mentorado_id), requested_period(ano, mes)
    if request.method == "GET":
        return _render_month_form(profile, period)
    try:
        goals = _read_goals()
        _check_any(goals)
        with transaction() as session:
            mentoring.set_month_goals(
                session,
                mentorado_id,
                period,
                goals,
                source=admin_source(),
                now=services().now(),
            )
    except InvalidInputError as err:
        return _render_month_form(profile, period, err.errors)
    except mentoring.MonthNotReportedError:
        return _render_month_form(profile, period, [FieldError(field="", message=NOT_REPORTED)])
    flash_user("Metas do mês salvas.")
    return redirect(url_for("console_mentees.show", mentorado_id=mentorado_id), code=303)


@console_goals.route("/metas", methods=["GET", "POST"])
@admin_required
def goals_of_all() -> ResponseReturnValue:
    """Set the default goals of all active mentees, or those of a month that they have reported."""
    if request.method == "GET":
        return _render_form()
    try:
        goals = {name: goal for name, goal in _read_goals().items() if goal is not None}
        _check_any(goals)
        month = read_query(MonthQuery, request.form).mes
    except InvalidInputError as err:
        return _render_form(err.errors)
    job_request = JobRequest(
        key=form_key(),
        kind=JobKind.GOALS,
        source=admin_source(),
        options=mass_goals.goals_options(goals, month),
    )
    with transaction() as session:
        count = mass_goals.count_changes(session, month, goals)
        changes = mass_goals.list_changes(session, month, goals, limit=MOST_SHOWN)
    preview = GoalsPreview(job_request, count, changes)
    if CONFIRMED_FIELD not in request.form:
        return _render_preview(preview)
    if request.form.get(DIGEST_FIELD, job_request.digest) != job_request.digest:
        return _render_preview(preview, OTHER_VALUES)
    try:
        return start_job(job_request, is_short=count <= MAX_INLINE_PROFILES)
    except KeyReusedError:
        return _render_preview(preview, OTHER_VALUES)


def _read_goals() -> dict[str, int | None]:
    """Return the goals of the form; a blank one is None."""
    typed = {name: request.form[name].strip() for name in GOALS if name in request.form}
    filled = {name: text for name, text in typed.items() if text}
    read = validate_model(GoalsForm, filled, FORM_INPUT)
    return {name: getattr(read, name) for name in typed}


def _check_any(goals: Mapping[str, int | None]) -> None:
    if not goals:
        raise InvalidInputError([FieldError(field="", message=MESSAGES["nothing"])])


def _render_preview(preview: GoalsPreview, note: str = "") -> ResponseReturnValue:
    """Show whose goals would change, with a form that makes exactly this change, once."""
    page, _ = _render_form([FieldError(field="", message=note)] if note else [], preview)
    return page, 409 if note else 200


def _render_form(errors: FieldErrors = (), preview: GoalsPreview | None = None) -> tuple[str, int]:
    hidden_fields: dict[str, object] = {}
    if preview is not None:
        hidden_fields = {KEY_FIELD: uuid.uuid4(), DIGEST_FIELD: preview.job_request.digest}
    page = render_template(
        "console_goals.html",
        labels={name: FACTS[name] for name in GOALS},
        form=request.form,
        errors=errors,
        preview=preview,
        hidden_fields=hidden_fields,
    )
    return page, 422 if errors else 200


def _render_month_form(
    profile: Mentorado, period: Period, errors: FieldErrors = ()
) -> ResponseReturnValue:
    """Show the goals in force; a month's own goals are filled in."""
    with transaction() as session:
        review = mentoring.read_review(session, profile, period)
    own = {
        mentoring.GOAL_OF[figure.name]: figure.goal
        for figure in review.figures
        if figure.is_own_goal
    }
    page = render_template(
        "console_month_goals.html",
        profile=profile,
        period=period,
        labels={name: FACTS[name] for name in GOALS},
        standing={name: getattr(profile, name) for name in GOALS},
        values={name: request.form.get(name, own.get(name, "")) for name in GOALS},
        errors=errors,
    )
    return page, 422 if errors else 200
