"""The admin console's writing view: a month's figures beside the mentor's texts on it."""

from collections.abc import Mapping
from hashlib import blake2b

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from blueprints.admin.mentees import PROFILE_PATH, get_profile
from core.database import transaction
from dashboard import mentoring
from dashboard.periods import Period, current_period
from dashboard.work_list import next_to_write, read_work_item
from models import Mentorado
from web.access_policy import admin_required
from web.admin_change import admin_source, log_admin_action
from web.errors import FieldError, FieldErrors, InvalidInputError
from web.flashes import flash_user
from web.formatting import month_name
from web.mentee_texts import FIGURE_LABELS
from web.month_input import MONTH, YEAR, requested_period
from web.services import services
from web.validation import Body, Note, validate_model

console_feedback = Blueprint("console_feedback", __name__, url_prefix="/admin/mentorados")

LABELS = {
    "analise_mes": "Análise do mês",
    "foco_proximo_mes": "Foco do próximo mês",
    "sugestao_mentor": "Sugestão do mentor",
}
DIGEST_FIELD = "visto"  # the digest of the feedback when the form was opened
AFTER_FIELD, NEXT = "depois", "proximo"  # the button that leads to the next mentee
OVERTAKEN_MESSAGE = "Alguém salvou este feedback enquanto você escrevia: veja abaixo do seu texto."


class FeedbackForm(Body):
    """The mentor's three texts."""

    analise_mes: Note
    foco_proximo_mes: Note
    sugestao_mentor: Note


@console_feedback.route(
    f"{PROFILE_PATH}/feedback/<{YEAR}:ano>/<{MONTH}:mes>", methods=["GET", "POST"]
)
@admin_required
def edit(mentorado_id: int, ano: int, mes: int) -> ResponseReturnValue:
    """Edit the mentor's feedback on one month."""
    profile, period = get_profile(mentorado_id), requested_period(ano, mes)
    saved = _saved_texts(mentorado_id, period)
    if request.method == "GET":
        return _render_form(profile, period, saved, saved)
    typed = {name: request.form.get(name, "") for name in LABELS}
    try:
        _check_unchanged(saved)
        texts = _checked_texts(typed)
        with transaction() as session:
            mentoring.write_feedback(
                session,
                mentorado_id,
                period,
                texts,
                expected=saved,
                source=admin_source(),
                now=services().now(),
            )
    except mentoring.EditConflictError:
        saved = _saved_texts(mentorado_id, period)
        return _render_form(
            profile,
            period,
            typed,
            saved,
            [FieldError(field="", message=OVERTAKEN_MESSAGE)],
            status=409,
        )
    except InvalidInputError as err:
        return _render_form(profile, period, typed, saved, err.errors, status=422)
    log_admin_action("feedback")
    if request.form.get(AFTER_FIELD) == NEXT:
        return _go_to_next(profile, period)
    flash_user(f"Feedback de {month_name(mes, ano)} salvo.")
    return redirect(url_for("console_mentees.show", mentorado_id=mentorado_id), code=303)


def _go_to_next(profile: Mentorado, period: Period) -> ResponseReturnValue:
    """Redirect to the next mentee without feedback; after the last one, to the work list."""
    with transaction() as session:
        next_id = next_to_write(session, period, profile.id)
    ano, mes = period.ano, period.mes
    if next_id is None:
        flash_user(
            f"Salvo. Todos que registraram {month_name(period.mes, period.ano)} têm feedback."
        )
        return redirect(url_for("console.month", ano=ano, mes=mes), code=303)
    flash_user(f"Feedback de {profile.nome_completo} salvo.")
    return redirect(url_for(".edit", mentorado_id=next_id, ano=ano, mes=mes), code=303)


def _check_unchanged(saved: Mapping[str, str]) -> None:
    if request.form.get(DIGEST_FIELD, _digest(saved)) != _digest(saved):
        raise mentoring.EditConflictError


def _saved_texts(mentorado_id: int, period: Period) -> dict[str, str]:
    with transaction() as session:
        feedback = mentoring.read_feedback(session, mentorado_id, period)
    return {name: getattr(feedback, name) if feedback else "" for name in LABELS}


def _checked_texts(typed: Mapping[str, str]) -> dict[str, str]:
    """Return the three texts; raises InvalidInputError for a blank one."""
    blank = [name for name, text in typed.items() if not text.strip()]
    if blank:
        raise InvalidInputError(
            [FieldError(field=name, message="Escreva este texto.") for name in blank]
        )
    return validate_model(FeedbackForm, typed).model_dump()


def _render_form(
    profile: Mentorado,
    period: Period,
    typed: Mapping[str, str],
    saved: Mapping[str, str],
    errors: FieldErrors = (),
    status: int = 200,
) -> ResponseReturnValue:
    with transaction() as session:
        review = mentoring.read_review(session, profile, period)
        item = read_work_item(session, period, profile.id)
    page = render_template(
        "console_feedback.html",
        profile=profile,
        period=period,
        following=period.plus(1) if period < current_period(services().now()) else None,
        review=review,
        item=item,
        figure_labels=FIGURE_LABELS,
        labels=LABELS,
        typed=typed,
        saved=saved,
        digest=_digest(saved),
        errors=errors,
    )
    return page, status


def _digest(saved: Mapping[str, str]) -> str:
    return blake2b("\0".join(saved.values()).encode(), digest_size=8).hexdigest()
