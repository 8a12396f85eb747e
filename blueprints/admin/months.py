"""The admin console's monthly work: the work list, the feedback and the goals of a month."""

import uuid
from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2b
from typing import Annotated, Any

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import BeforeValidator

from blueprints.admin.jobs import CONFIRMED_FIELD, KEY_FIELD, form_key, start_job
from blueprints.admin.mentees import PROFILE_PATH, get_profile
from blueprints.api.admin_months import WorkPage, next_cursor, read_page
from core.database import transaction
from dashboard import goal_changes, mentoring
from dashboard.goal_changes import GOAL_OF
from dashboard.mentoring import WorkFilter, count_work, list_work, next_to_write, read_work_item
from dashboard.periods import Period, current_period, working_period
from models import Mentorado
from models.background import JobKind
from provisioning.jobs import JobRequest, KeyReusedError
from web.access_policy import admin_required
from web.admin_change import admin_source, log_admin_action
from web.admin_labels import FACTS
from web.errors import FieldError, FieldErrors, InvalidInputError
from web.formatting import month_name
from web.month_input import FORM_INPUT, MONTH, YEAR, Figure, MonthQuery, requested_period
from web.request_context import flash_user
from web.services import services
from web.validation import MESSAGES, Body, Note, read_query, validate_model

console = Blueprint("console", __name__, url_prefix="/admin")

PAGE_SIZE = 50
MOST_ADDRESSES = 1_000  # shown to be copied; mail programs take fewer
MONTH_PATH = f"<{YEAR}:ano>/<{MONTH}:mes>"
FILTERS = {
    None: "Todos",
    WorkFilter.NO_METRICS: "Sem métricas",
    WorkFilter.NO_FEEDBACK: "Sem feedback",
    WorkFilter.NO_ACCESS: "Sem acesso",
    WorkFilter.LOW_SCORE: "Abaixo de 30",
}


@console.get("")
@admin_required
def overview() -> ResponseReturnValue:
    """Show the work list of the month that mentors work on."""
    return _render_list(working_period(services().now()))


@console.get(f"/meses/{MONTH_PATH}")
@admin_required
def month(ano: int, mes: int) -> ResponseReturnValue:
    """Show the work list of a month."""
    return _render_list(requested_period(ano, mes))


@console.get(f"/meses/{MONTH_PATH}/emails")
@admin_required
def addresses(ano: int, mes: int) -> ResponseReturnValue:
    """Show the addresses of a filter's mentees, to be copied into a mail program."""
    period, query = requested_period(ano, mes), read_query(WorkPage)
    with transaction() as session:
        items = list_work(session, period, work_filter=query.filter, limit=MOST_ADDRESSES + 1)
    found = [item.email for item in items[:MOST_ADDRESSES] if item.email]
    return render_template(
        "console_addresses.html",
        period=period,
        query=query,
        filters=FILTERS,
        addresses=list(dict.fromkeys(found)),
        without=sum(not item.email for item in items[:MOST_ADDRESSES]),
        is_cut=len(items) > MOST_ADDRESSES,
    )


@console.get(f"/meses/{MONTH_PATH}/escrever")
@admin_required
def write(ano: int, mes: int) -> ResponseReturnValue:
    """Open the writing view of the first mentee who has reported and has no feedback."""
    period = requested_period(ano, mes)
    with transaction() as session:
        first = list_work(session, period, work_filter=WorkFilter.TO_WRITE, limit=1)
    if not first:
        flash_user(f"Todos que registraram {month_name(mes, ano)} têm feedback.")
        return redirect(url_for(".month", ano=ano, mes=mes))
    return redirect(url_for("console_feedback.edit", mentorado_id=first[0].id, ano=ano, mes=mes))


def _render_list(period: Period) -> str:
    query = read_query(WorkPage).model_copy(update={"limit": PAGE_SIZE})
    with transaction() as session:
        counts = count_work(session, period)
        items = read_page(session, period, query)
    return render_template(
        "console_month.html",
        period=period,
        following=_following(period),
        query=query,
        filters=FILTERS,
        counts=counts,
        items=items,
        cursor=next_cursor(items, query),
    )


def _following(period: Period) -> Period | None:
    """Return the month after this one; None for one in the future."""
    return period.next if period < current_period(services().now()) else None


console_feedback = Blueprint("console_feedback", __name__, url_prefix="/admin/mentorados")

TEXTS = {
    "analise_mes": "Análise do mês",
    "foco_proximo_mes": "Foco do próximo mês",
    "sugestao_mentor": "Sugestão do mentor",
}
SEEN_FIELD = "visto"  # the digest of the feedback when the form was opened
OVERTAKEN_MESSAGE = "Alguém salvou este feedback enquanto você escrevia: veja abaixo do seu texto."


class FeedbackForm(Body):
    """The mentor's three texts."""

    analise_mes: Note
    foco_proximo_mes: Note
    sugestao_mentor: Note


@console_feedback.route(f"{PROFILE_PATH}/feedback/{MONTH_PATH}", methods=["GET", "POST"])
@admin_required
def edit(mentorado_id: int, ano: int, mes: int) -> ResponseReturnValue:
    """Edit the mentor's feedback on one month."""
    profile, period = get_profile(mentorado_id), requested_period(ano, mes)
    saved = _saved_texts(mentorado_id, period)
    if request.method == "GET":
        return _render_feedback(profile, period, saved, saved)
    typed = {name: request.form.get(name, "") for name in TEXTS}
    source, now = admin_source(), services().now()
    try:
        _check_unchanged(saved)
        texts = _checked_texts(typed)
        with transaction() as session:
            mentoring.write_feedback(
                session, mentorado_id, period, texts, expected=saved, source=source, now=now
            )
    except mentoring.EditConflictError:
        errors = [FieldError(field="", message=OVERTAKEN_MESSAGE)]
        saved = _saved_texts(mentorado_id, period)
        return _render_feedback(profile, period, typed, saved, errors), 409
    except InvalidInputError as err:
        return _render_feedback(profile, period, typed, saved, err.errors), 422
    log_admin_action("feedback")
    if request.form.get("depois") == "proximo":
        return _go_to_next(profile, period)
    flash_user(f"Feedback de {month_name(mes, ano)} salvo.")
    return redirect(url_for("console_mentees.show", mentorado_id=mentorado_id), code=303)


def _go_to_next(profile: Mentorado, period: Period) -> ResponseReturnValue:
    """Redirect to the next mentee without feedback; after the last one, to the work list."""
    with transaction() as session:
        next_id = next_to_write(session, period, profile.id)
    ano, mes = period.ano, period.mes
    if next_id is None:
        flash_user(f"Salvo. Todos que registraram {month_name(mes, ano)} têm feedback.")
        return redirect(url_for("console.month", ano=ano, mes=mes), code=303)
    flash_user(f"Feedback de {profile.nome_completo} salvo.")
    return redirect(url_for(".edit", mentorado_id=next_id, ano=ano, mes=mes), code=303)


def _check_unchanged(saved: Mapping[str, str]) -> None:
    if request.form.get(SEEN_FIELD, _digest(saved)) != _digest(saved):
        raise mentoring.EditConflictError


def _digest(saved: Mapping[str, str]) -> str:
    return blake2b("\0".join(saved.values()).encode(), digest_size=8).hexdigest()


def _saved_texts(mentorado_id: int, period: Period) -> dict[str, str]:
    with transaction() as session:
        feedback = mentoring.read_feedback(session, mentorado_id, period)
    return {name: getattr(feedback, name) if feedback else "" for name in TEXTS}


def _checked_texts(typed: Mapping[str, str]) -> dict[str, str]:
    """Return the three texts; raises InvalidInputError for a blank one."""
    blank = [name for name, text in typed.items() if not text.strip()]
    if blank:
        raise InvalidInputError([FieldError(field=n, message="Escreva este texto.") for n in blank])
    return validate_model(FeedbackForm, typed).model_dump()


def _render_feedback(
    profile: Mentorado,
    period: Period,
    typed: Mapping[str, str],
    saved: Mapping[str, str],
    errors: FieldErrors = (),
) -> str:
    with transaction() as session:
        review = mentoring.read_review(session, profile, period)
        item = read_work_item(session, period, profile.id)
    return render_template(
        "console_feedback.html",
        profile=profile,
        period=period,
        following=_following(period),
        review=review,
        item=item,
        labels=TEXTS,
        typed=typed,
        saved=saved,
        digest=_digest(saved),
        errors=errors,
    )


console_goals = Blueprint("console_goals", __name__, url_prefix="/admin")

GOALS = {name: FACTS[name] for name in GOAL_OF.values()}
OTHER_VALUES = "Os valores não são os que foram contados. Confira e confirme de novo."
COUNTED_FIELD = "contado"  # the hidden field with the digest of the counted values
MAX_INLINE_PROFILES = 1_000  # that a request changes at once; more are a background job
MOST_SHOWN = 50  # of those who would change
Goal = Annotated[Figure | None, BeforeValidator(lambda text: text or None)]


class GoalsForm(Body):
    """Typed goals; omitted ones keep their values."""

    meta_faturamento: Goal = None
    meta_leads: Goal = None
    meta_procedimentos: Goal = None
    meta_posts: Goal = None
    meta_stories: Goal = None


@console_goals.route(f"/mentorados{PROFILE_PATH}/metas/{MONTH_PATH}", methods=["GET", "POST"])
@admin_required
def month_goals(mentorado_id: int, ano: int, mes: int) -> ResponseReturnValue:
    """Edit one mentee's goals of a month that they have reported."""
    profile, period = get_profile(mentorado_id), requested_period(ano, mes)
    if request.method == "GET":
        return _render_month_goals(profile, period)
    source, now = admin_source(), services().now()
    try:
        goals = _read_goals(with_blank=True)
        with transaction() as session:
            goal_changes.set_month_goals(
                session, mentorado_id, period, goals, source=source, now=now
            )
    except InvalidInputError as err:
        return _render_month_goals(profile, period, err.errors), 422
    except goal_changes.MonthNotReportedError:
        message = "O mentorado ainda não registrou este mês. Mude a meta padrão no perfil."
        errors = [FieldError(field="", message=message)]
        return _render_month_goals(profile, period, errors), 422
    flash_user("Metas do mês salvas.")
    return redirect(url_for("console_mentees.show", mentorado_id=mentorado_id), code=303)


@console_goals.route("/metas", methods=["GET", "POST"])
@admin_required
def goals_of_all() -> ResponseReturnValue:
    """Set the default goals of all active mentees, or those of a month that they have reported.

    A preview shows whose goals would change; its form makes exactly this change, once.
    """
    if request.method == "GET":
        return _render_goals()
    try:
        goals = _read_goals(with_blank=False)
        period = read_query(MonthQuery, request.form).mes
    except InvalidInputError as err:
        return _render_goals(err.errors), 422
    options = goal_changes.goals_options(goals, period)
    job_request = JobRequest(form_key(), JobKind.GOALS, admin_source(), options)
    with transaction() as session:
        count = goal_changes.count_changes(session, period, goals)
        changes = goal_changes.list_changes(session, period, goals, limit=MOST_SHOWN)
    hidden_fields = {KEY_FIELD: uuid.uuid4(), COUNTED_FIELD: job_request.digest}
    preview = {"goals": goals, "total": count, "changes": changes, "hidden": hidden_fields}
    if CONFIRMED_FIELD not in request.form:
        return _render_goals(preview=preview)
    if request.form.get(COUNTED_FIELD, job_request.digest) == job_request.digest:
        with suppress(KeyReusedError):
            return start_job(job_request, is_short=count <= MAX_INLINE_PROFILES)
    return _render_goals([FieldError(field="", message=OTHER_VALUES)], preview), 409


def _read_goals(*, with_blank: bool) -> dict[str, int | None]:
    """Return the typed goals, `with_blank` also blank ones as None; raises InvalidInputError."""
    typed = {name: request.form[name].strip() for name in GOALS if name in request.form}
    form = validate_model(GoalsForm, typed, FORM_INPUT)
    goals = form.model_dump(exclude_unset=True, exclude_none=not with_blank)
    if not goals:
        raise InvalidInputError([FieldError(field="", message=MESSAGES["nothing"])])
    return goals


def _render_goals(errors: FieldErrors = (), preview: Mapping[str, Any] | None = None) -> str:
    return render_template(
        "console_goals.html", labels=GOALS, form=request.form, errors=errors, preview=preview
    )


def _render_month_goals(profile: Mentorado, period: Period, errors: FieldErrors = ()) -> str:
    """Show the goals in force; a month's own goals are filled in."""
    with transaction() as session:
        review = mentoring.read_review(session, profile, period)
    own = {GOAL_OF[each.name]: each.goal for each in review.figures if each.is_own_goal}
    return render_template(
        "console_month_goals.html",
        profile=profile,
        period=period,
        labels=GOALS,
        values={name: request.form.get(name, own.get(name, "")) for name in GOALS},
        errors=errors,
    )
