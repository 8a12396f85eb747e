"""The support desk's feedback: the mentor's words on one month of one mentee."""

from collections.abc import Mapping
from hashlib import blake2b

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from blueprints.admin.mentees import OF_ONE, the_profile
from core.database import transaction
from dashboard import mentoring
from dashboard.periods import Period
from models import Mentorado
from web.access_policy import admin_required
from web.admin_change import admin_source, flash_result
from web.errors import Errors, InvalidInputError
from web.formatting import month_name
from web.month_input import MONTH, YEAR, requested_period
from web.problem_responses import FieldError
from web.request_context import flash_user
from web.services import services
from web.validation import Body, Note, checked

console_feedback = Blueprint("console_feedback", __name__, url_prefix="/admin/mentorados")

WORDS = {
    "analise_mes": "Análise do mês",
    "foco_proximo_mes": "Foco do próximo mês",
    "sugestao_mentor": "Sugestão do mentor",
}
SEEN = "visto"  # what the feedback was when the form was opened
OVERTAKEN = "Alguém salvou este feedback enquanto você escrevia: veja abaixo do seu texto."


class FeedbackForm(Body):
    """The mentor's words, all three of them."""

    analise_mes: Note
    foco_proximo_mes: Note
    sugestao_mentor: Note


@console_feedback.route(f"{OF_ONE}/feedback/<{YEAR}:ano>/<{MONTH}:mes>", methods=["GET", "POST"])
@admin_required
def edit(mentorado_id: int, ano: int, mes: int) -> ResponseReturnValue:
    """The mentor's feedback on one month."""
    profile, period = the_profile(mentorado_id), requested_period(ano, mes)
    month = (period.ano, period.mes)
    saved = _saved(mentorado_id, month)
    if request.method == "GET":
        return _feedback_form(profile, period, saved, saved)
    typed = {name: request.form.get(name, "") for name in WORDS}
    try:
        _check_seen(saved)
        words = _said(typed)
        with transaction() as session:
            mentoring.write_feedback(
                session,
                mentorado_id,
                month,
                words,
                instead_of=saved,
                source=admin_source(),
                now=services().now(),
            )
    except mentoring.OvertakenError:
        saved = _saved(mentorado_id, month)
        return _feedback_form(profile, period, typed, saved, [_fault("", OVERTAKEN)], status=409)
    except InvalidInputError as err:
        return _feedback_form(profile, period, typed, saved, err.errors, status=422)
    flash_result("feedback")
    flash_user(f"Feedback de {month_name(mes, ano)} salvo.")
    return redirect(url_for("console_mentees.show", mentorado_id=mentorado_id), code=303)


def _check_seen(saved: Mapping[str, str]) -> None:
    if request.form.get(SEEN, _mark(saved)) != _mark(saved):
        raise mentoring.OvertakenError


def _saved(mentorado_id: int, month: tuple[int, int]) -> dict[str, str]:
    with transaction() as session:
        found = mentoring.read_feedback(session, mentorado_id, month)
    return {name: getattr(found, name) if found else "" for name in WORDS}


def _said(typed: Mapping[str, str]) -> dict[str, str]:
    """All three texts; raises InvalidInputError where one says nothing."""
    blank = [name for name, text in typed.items() if not text.strip()]
    if blank:
        raise InvalidInputError([_fault(name, "Escreva este texto.") for name in blank])
    return checked(FeedbackForm, typed).model_dump()


def _feedback_form(
    profile: Mentorado,
    period: Period,
    typed: Mapping[str, str],
    saved: Mapping[str, str],
    errors: Errors = (),
    status: int = 200,
) -> ResponseReturnValue:
    page = render_template(
        "console_feedback.html",
        profile=profile,
        period=period,
        labels=WORDS,
        typed=typed,
        saved=saved,
        mark=_mark(saved),
        errors=errors,
    )
    return page, status


def _mark(saved: Mapping[str, str]) -> str:
    return blake2b("\0".join(saved.values()).encode(), digest_size=8).hexdigest()


def _fault(field: str, message: str) -> FieldError:
    return {"field": field, "message": message}
