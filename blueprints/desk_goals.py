"""The support desk's goals: of one mentee's month, or of everybody who is active."""

from typing import Annotated

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import BeforeValidator

from blueprints.acting import admins_entry, make_known
from blueprints.answers import FieldError
from blueprints.bodies import MESSAGES, Amount, Body, checked
from blueprints.desk_mentees import OF_ONE, the_profile
from blueprints.desk_words import FACTS
from blueprints.errors import Errors, InvalidInputError
from blueprints.month_bodies import BY_HAND, MONTH, YEAR, as_written, asked_period
from blueprints.stance import admin_required
from blueprints.toasts import tell
from blueprints.words import month_name
from extensions import background_transaction, transaction
from house import house
from provisioning import mentoring

desk_goals = Blueprint("desk_goals", __name__, url_prefix="/admin")

GOALS = ("meta_faturamento", "meta_leads", "meta_procedimentos", "meta_posts", "meta_stories")
NOT_REPORTED = "O mentorado ainda não registrou este mês. Mude a meta padrão no perfil."
CONFIRMED = "confirmado"
LONGEST_MONTH = len("2026-03")
Written = Annotated[Amount | None, BeforeValidator(as_written)]


class GoalsForm(Body):
    """Goals as typed; the ones that are left out are not touched."""

    meta_faturamento: Written = None
    meta_leads: Written = None
    meta_procedimentos: Written = None
    meta_posts: Written = None
    meta_stories: Written = None


@desk_goals.route(f"/mentorados{OF_ONE}/metas/<{YEAR}:ano>/<{MONTH}:mes>", methods=["GET", "POST"])
@admin_required
def month_goals(mentorado_id: int, ano: int, mes: int) -> ResponseReturnValue:
    """One mentee's goals of a month that they have reported."""
    profile, period = the_profile(mentorado_id), asked_period(ano, mes)
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
                entry=admins_entry(),
                now=house().now(),
            )
    except InvalidInputError as err:
        return _goals_form(title, err.errors)
    except mentoring.MonthNotReportedError:
        return _goals_form(title, [_fault("", NOT_REPORTED)])
    tell("Metas do mês salvas.")
    return redirect(url_for("desk_mentees.show", mentorado_id=mentorado_id), code=303)


@desk_goals.route("/metas", methods=["GET", "POST"])
@admin_required
def goals_of_all() -> ResponseReturnValue:
    """The standing goals of everybody who is active, or those of a month they have reported."""
    title = "Metas de todos os mentorados ativos"
    if request.method == "GET":
        return _goals_form(title, is_for_all=True)
    try:
        goals, month = _goals(), _chosen_month()
    except InvalidInputError as err:
        return _goals_form(title, err.errors, is_for_all=True)
    is_done = CONFIRMED in request.form
    with background_transaction() as session, session.begin_nested() as savepoint:
        count, owners = mentoring.set_goals_of_all(
            session, month, goals, entry=admins_entry(), now=house().now()
        )
        if not is_done:
            savepoint.rollback()
    if not is_done:
        return _goals_form(title, is_for_all=True, count=count)
    make_known("goals_of_all", owners)
    tell(f"Metas de {count} mentorados atualizadas.")
    return redirect(url_for("desk_mentees.index"), code=303)


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
    period = asked_period(int(ano), int(mes))
    return period.ano, period.mes


def _goals_form(
    title: str, errors: Errors = (), *, is_for_all: bool = False, count: int | None = None
) -> ResponseReturnValue:
    page = render_template(
        "desk_goals.html",
        title=title,
        labels={name: FACTS[name] for name in GOALS},
        given=request.form,
        errors=errors,
        is_for_all=is_for_all,
        count=count,
    )
    return page, 422 if errors else 200


def _fault(field: str, message: str) -> FieldError:
    return {"field": field, "message": message}
