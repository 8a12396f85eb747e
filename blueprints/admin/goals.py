"""The admin console's goals: of one mentee's month, or of every active mentee."""

import uuid
from collections.abc import Mapping
from typing import Annotated

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import BeforeValidator

from blueprints.admin.jobs import KEY, form_key, start
from blueprints.admin.mentees import OF_ONE, the_profile
from core.database import transaction
from dashboard import mentoring
from models.admin_job import JobKind
from provisioning.jobs import JobRequest, KeyReusedError
from web.access_policy import admin_required
from web.admin_change import admin_source
from web.admin_labels import FACTS
from web.errors import Errors, InvalidInputError
from web.formatting import month_name
from web.month_input import BY_HAND, MONTH, YEAR, as_written, requested_period
from web.problem_responses import FieldError
from web.request_context import flash_user
from web.services import services
from web.validation import MESSAGES, Amount, Body, checked

console_goals = Blueprint("console_goals", __name__, url_prefix="/admin")

GOALS = ("meta_faturamento", "meta_leads", "meta_procedimentos", "meta_posts", "meta_stories")
NOT_REPORTED = "O mentorado ainda não registrou este mês. Mude a meta padrão no perfil."
OTHER_VALUES = "Os valores não são os que foram contados. Confira e confirme de novo."
CONFIRMED = "confirmado"
COUNTED = "contado"  # the hidden field that says which values were counted
SHORT_COUNT = 1_000  # so many profiles are changed within the request; more are a job to be watched
TITLE_OF_ALL = "Metas de todos os mentorados ativos"
LONGEST_MONTH = len("2026-03")
Written = Annotated[Amount | None, BeforeValidator(as_written)]


class GoalsForm(Body):
    """Goals as typed; the ones that are left out are not touched."""

    meta_faturamento: Written = None
    meta_leads: Written = None
    meta_procedimentos: Written = None
    meta_posts: Written = None
    meta_stories: Written = None


@console_goals.route(
    f"/mentorados{OF_ONE}/metas/<{YEAR}:ano>/<{MONTH}:mes>", methods=["GET", "POST"]
)
@admin_required
def month_goals(mentorado_id: int, ano: int, mes: int) -> ResponseReturnValue:
    """One mentee's goals of a month that they have reported."""
    profile, period = the_profile(mentorado_id), requested_period(ano, mes)
    month = (period.ano, period.mes)
    title = f"Metas de {month_name(mes, ano)}: {profile.nome_completo}"
    if request.method == "GET":
        return _goals_form(title)
    try:
        goals = _goals()
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
        return _goals_form(title, err.errors)
    except mentoring.MonthNotReportedError:
        return _goals_form(title, [_fault("", NOT_REPORTED)])
    flash_user("Metas do mês salvas.")
    return redirect(url_for("console_mentees.show", mentorado_id=mentorado_id), code=303)


@console_goals.route("/metas", methods=["GET", "POST"])
@admin_required
def goals_of_all() -> ResponseReturnValue:
    """The standing goals of every active mentee, or those of a month that they have reported."""
    if request.method == "GET":
        return _goals_form(TITLE_OF_ALL, is_for_all=True)
    try:
        wanted = JobRequest(
            key=form_key(),
            kind=JobKind.GOALS,
            source=admin_source(),
            options=mentoring.goals_options(_goals(), _chosen_month()),
        )
    except InvalidInputError as err:
        return _goals_form(TITLE_OF_ALL, err.errors, is_for_all=True)
    with transaction() as session:
        count = mentoring.count_goals_of_all(session, mentoring.month_of(wanted.options))
    if CONFIRMED not in request.form:
        return _counted_form(wanted, count)
    if request.form.get(COUNTED, wanted.digest) != wanted.digest:
        return _counted_form(wanted, count, OTHER_VALUES)
    try:
        return start(wanted, is_short=count <= SHORT_COUNT)
    except KeyReusedError:
        return _counted_form(wanted, count, OTHER_VALUES)


def _goals() -> dict[str, int]:
    given = {name: value for name in GOALS if (value := request.form.get(name, "").strip())}
    if not given:
        raise InvalidInputError([_fault("", MESSAGES["nothing"])])
    return checked(GoalsForm, given, BY_HAND).model_dump(exclude_unset=True)


def _chosen_month() -> tuple[int, int] | None:
    """The month of the form, as browsers write one; blank means the standing goals."""
    given = request.form.get("mes", "").strip()
    if not given:
        return None
    ano, _, mes = given.partition("-")
    if not (
        ano.isdecimal() and mes.isdecimal() and given.isascii() and len(given) <= LONGEST_MONTH
    ):
        raise InvalidInputError([_fault("mes", "Informe um mês como 2026-03.")])
    period = requested_period(int(ano), int(mes))
    return period.ano, period.mes


def _counted_form(wanted: JobRequest, count: int, note: str = "") -> ResponseReturnValue:
    """How many would change, and the form that changes them: once, and as they were counted."""
    errors = [_fault("", note)] if note else []
    hidden = {KEY: uuid.uuid4(), COUNTED: wanted.digest}
    page, _ = _goals_form(TITLE_OF_ALL, errors, is_for_all=True, count=count, hidden=hidden)
    return page, 409 if note else 200


def _goals_form(
    title: str,
    errors: Errors = (),
    *,
    is_for_all: bool = False,
    count: int | None = None,
    hidden: Mapping[str, object] | None = None,
) -> tuple[str, int]:
    page = render_template(
        "console_goals.html",
        title=title,
        labels={name: FACTS[name] for name in GOALS},
        given=request.form,
        errors=errors,
        is_for_all=is_for_all,
        count=count,
        hidden=hidden or {},
    )
    return page, 422 if errors else 200


def _fault(field: str, message: str) -> FieldError:
    return {"field": field, "message": message}
