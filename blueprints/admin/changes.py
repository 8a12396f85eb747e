"""Changes in the admin console: form, preview, and confirmation with a reason."""

from collections.abc import Mapping
from dataclasses import dataclass

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.admin.change_types import (
    CHANGE_TYPES,
    ChangeInput,
    ChangeType,
    NoFields,
)
from blueprints.admin.mentees import successor_url
from core.database import transaction
from models import Mentorado, User
from provisioning import audit
from provisioning.audit import Source
from provisioning.errors import ConflictError, MentoradoExistsError, UnknownMentoradoError
from provisioning.preview import (
    SHOWN_COLUMNS,
    ChangeRequest,
    ChangeResult,
    Preview,
    Subject,
    SubjectKind,
)
from web.access_policy import admin_required
from web.admin_change import (
    DIGEST_FIELD,
    admin_source,
    confirm_change,
    has_typed,
    preview_change,
)
from web.admin_labels import (
    CONFIRMED_NAME,
    CONFLICTS,
    FIELDS,
    Names,
    event_name,
    list_differences,
    subject_label,
)
from web.errors import FieldErrors, HttpError, InvalidInputError
from web.flashes import flash_user
from web.formatting import moment
from web.month_input import FORM_INPUT, SEEN_PREFIX
from web.services import services
from web.validation import ID_CONVERTER, validate_model

console_changes = Blueprint("console_changes", __name__, url_prefix="/admin")

PATH = f"/<any({', '.join(SubjectKind)}):subject>/<{ID_CONVERTER}:subject_id>/<key>"
REPORTED_ERRORS = (InvalidInputError, ConflictError, MentoradoExistsError)
MODELS = {SubjectKind.USER: User, SubjectKind.PROFILE: Mentorado}
MISSING = {
    SubjectKind.USER: "Não existe pessoa nº {}.",
    SubjectKind.PROFILE: "Não existe perfil nº {}.",
}


@dataclass(frozen=True, slots=True)
class RequestedChange:
    """The change that a URL names: its type, and the user or profile that it is about."""

    type: ChangeType
    key: str
    subject: Subject

    @property
    def subject_url(self) -> str:
        """The page of the subject."""
        if self.subject.kind is SubjectKind.USER:
            return url_for("console_users.show", user_id=self.subject.id)
        return url_for("console_mentees.show", mentorado_id=self.subject.id)


@console_changes.get(PATH)
@admin_required
def show_form(subject: str, subject_id: int, key: str) -> ResponseReturnValue:
    """Show the form of a change; for a change without input, its preview."""
    requested = _requested_change(subject, subject_id, key)
    if requested.type.form is not NoFields and not request.args:
        return _render_form(requested, {})
    return _render_preview(requested, request.args)


@console_changes.post(PATH)
@admin_required
def preview_or_confirm(subject: str, subject_id: int, key: str) -> ResponseReturnValue:
    """Show the preview of a change; with the digest of a preview, make the change.

    A profile that another admin has deleted or merged meanwhile is answered with its new page.
    """
    requested = _requested_change(subject, subject_id, key)
    try:
        if DIGEST_FIELD in request.form:
            return _confirm(requested)
        if changed := _changed_since_opened(requested):
            return _render_changed_form(requested, changed)
        return _render_preview(requested, request.form)
    except UnknownMentoradoError:
        if (url := successor_url(subject_id)) is None:
            raise
        return redirect(url, code=303)


def _requested_change(subject: str, subject_id: int, key: str) -> RequestedChange:
    kind = SubjectKind(subject)
    change_type = CHANGE_TYPES.get((kind, key))
    if change_type is None:
        raise HttpError("not_found", f"there is no change {key}")
    return RequestedChange(change_type, key, Subject(kind, subject_id))


def _read_change(requested: RequestedChange, form: Mapping[str, str]) -> ChangeRequest:
    """Return the change with the values of the form; raises InvalidInputError."""
    change_type, subject, now = requested.type, requested.subject, services().now()
    typed = {name: form[name].strip() for name in change_type.form.model_fields if name in form}
    values = validate_model(change_type.form, typed, FORM_INPUT).model_dump()
    subjects = [subject]
    if change_type.other_subject is not None:
        field, kind = change_type.other_subject
        subjects.append(Subject(kind, values[field]))

    def apply(session: Session, source: Source) -> ChangeResult:
        for other in subjects[1:]:
            if session.get(MODELS[other.kind], other.id) is None:
                message = MISSING[other.kind].format(other.id)
                raise InvalidInputError([{"field": field, "message": message}])
        return change_type.apply(session, ChangeInput(subject.id, values, source, now))

    name = f"{subject.kind}/{subject.id}/{requested.key}"
    return ChangeRequest(name, values, subjects, apply)


def _render_preview(
    requested: RequestedChange,
    form: Mapping[str, str],
    *,
    note: str = "",
    errors: FieldErrors = (),
) -> ResponseReturnValue:
    """Render what would change; where it cannot be made, the form with the errors."""
    try:
        change = _read_change(requested, form)
        found = preview_change(change)
    except REPORTED_ERRORS as err:
        return _render_form(requested, form, _field_errors(err))
    before = found.before[requested.subject]
    others = [s for s in found.before if s != requested.subject]
    page = render_template(
        "console_change_preview.html",
        requested=requested,
        values=change.values,
        note=note,
        errors=errors,
        reason=form.get("reason", ""),
        digest=found.digest,
        changes=list_differences(found.before, found.after, _names_in(found)),
        conflicts=found.conflicts,
        name=before.get("nome_completo"),
        other=subject_label(others[0], found.before[others[0]]) if others else "",
        counts={name: before[name] for name in before if name not in SHOWN_COLUMNS},
        confirmed_name_field=CONFIRMED_NAME,
    )
    return page, 409 if note else 422 if errors else 200


def _confirm(requested: RequestedChange) -> ResponseReturnValue:
    """Make the change and redirect to its result; where it cannot be made, show it again."""
    if errors := _errors_of_name(requested):
        return _render_preview(requested, request.form, errors=errors)
    try:
        change = _read_change(requested, request.form)
        confirm_change(requested.type.action, change)
    except ConflictError as err:
        note = f"{CONFLICTS[err.kind]} {_latest_change(requested)}"
        return _render_preview(requested, request.form, note=note.strip())
    except (InvalidInputError, MentoradoExistsError) as err:
        return _render_form(requested, request.form, _field_errors(err))
    flash_user(requested.type.success_message)
    return redirect(_result_url(requested, change), code=303)


def _errors_of_name(requested: RequestedChange) -> FieldErrors:
    """Return an error where the admin has not typed the name of a profile to be deleted."""
    if not requested.type.needs_name:
        return ()
    with transaction() as session:
        profile = session.get(Mentorado, requested.subject.id)
    if profile is None or has_typed(CONFIRMED_NAME, profile.nome_completo):
        return ()  # a second click on the same button finds no profile
    message = f"Digite «{profile.nome_completo}» para confirmar."
    return [{"field": CONFIRMED_NAME, "message": message}]


def _latest_change(requested: RequestedChange) -> str:
    """Return a sentence about the newest change of the subject, if another admin made it."""
    is_user, number = requested.subject.kind is SubjectKind.USER, requested.subject.id
    about = {"user_id": number} if is_user else {"mentorado_id": number}
    with transaction() as session:
        newest = audit.read_history(session, **about, limit=1)
        event = next((e for e in newest if e.actor_id not in (None, admin_source().actor_id)), None)
        actor = session.get(User, event.actor_id) if event else None
    if event is None:
        return ""
    name = (actor.name if actor else None) or "outra pessoa da equipe"
    return f"Última mudança: «{event_name(event)}», por {name}, em {moment(event.at)}."


def _result_url(requested: RequestedChange, change: ChangeRequest) -> str:
    """Return the page with the result: of the subject, or of the profile it was merged into."""
    if not requested.type.removes_subject:
        return requested.subject_url
    if "destino" in change.values:
        return url_for("console_mentees.show", mentorado_id=change.values["destino"])
    return url_for("console_deleted.show_deleted", mentorado_id=requested.subject.id)


def _names_in(preview: Preview) -> Names:
    """Return the names of the users and profiles that the facts of a preview refer to."""
    snapshots = [*preview.before.values(), *preview.after.values()]
    names: dict[tuple[str, int], str] = {}
    for fact, model, name in (
        ("user_id", User, User.name),
        ("mentorado_id", Mentorado, Mentorado.nome_completo),
    ):
        ids = {facts[fact] for facts in snapshots if facts.get(fact) is not None}
        if ids:
            with transaction() as session:
                rows = session.execute(select(model.id, name).where(model.id.in_(ids))).all()
            names |= {
                (fact, number): f"{text or 'sem nome'} (nº {number})" for number, text in rows
            }
    return names


def _render_form(
    requested: RequestedChange,
    form: Mapping[str, str],
    errors: FieldErrors = (),
    *,
    note: str = "",
) -> tuple[str, int]:
    """Render the form of the change, filled in with stored values."""
    stored = _stored_values(requested)
    page = render_template(
        "console_change_form.html",
        requested=requested,
        labels=FIELDS,
        values={name: form.get(name, stored[name]) for name in stored},
        seen=stored if requested.key == "corrigir" else {},
        seen_prefix=SEEN_PREFIX,
        errors=errors,
        error_of={error["field"]: error["message"] for error in errors},
        note=note,
    )
    return page, 422 if errors else 200


def _changed_since_opened(requested: RequestedChange) -> dict[str, str]:
    """Return by field the stored value that another admin has changed since the form was opened."""
    fields = requested.type.form.model_fields
    seen = {
        name: text for name in fields if (text := request.form.get(SEEN_PREFIX + name)) is not None
    }
    stored = _stored_values(requested) if seen else {}
    return {name: stored[name] for name, text in seen.items() if text != stored[name]}


def _render_changed_form(
    requested: RequestedChange, changed: Mapping[str, str]
) -> ResponseReturnValue:
    """Render the form again: what this admin has typed, and the newest values of other fields."""
    typed = {
        name: text
        for name, text in request.form.items()
        if text != request.form.get(SEEN_PREFIX + name)
    }
    errors: FieldErrors = [
        {"field": name, "message": f"mudou para «{value or 'em branco'}» enquanto você editava."}
        for name, value in changed.items()
    ]
    page, _ = _render_form(requested, typed, errors, note=_latest_change(requested))
    return page, 409


def _stored_values(requested: RequestedChange) -> dict[str, str]:
    """Return by field of the form the stored value as text, blank where there is none."""
    profile = None
    if requested.subject.kind is SubjectKind.PROFILE:
        with transaction() as session:
            profile = session.get(Mentorado, requested.subject.id)
        if profile is None:
            raise UnknownMentoradoError(f"there is no mentorado {requested.subject.id}")
    values = {name: getattr(profile, name, None) for name in requested.type.form.model_fields}
    return {name: "" if value is None else str(value) for name, value in values.items()}


def _field_errors(err: Exception) -> FieldErrors:
    if isinstance(err, InvalidInputError):
        return err.errors
    if isinstance(err, MentoradoExistsError):
        with transaction() as session:
            other = session.get(Mentorado, err.mentorado_id)
        name = f"{other.nome_completo}, perfil" if other else "O perfil"
        message = f"{name} nº {err.mentorado_id}, já tem este e-mail. Una os dois perfis."
        return [{"field": "email", "message": message}]
    return [{"field": "", "message": CONFLICTS[err.kind]}] if isinstance(err, ConflictError) else []
