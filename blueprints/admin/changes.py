"""Changes in the admin console: form, preview, and confirmation with a reason."""

from collections.abc import Mapping
from dataclasses import dataclass

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.admin.change_types import CHANGE_TYPES, PROFILE, USER, ChangeInput, ChangeType
from blueprints.admin.mentees import successor_url
from core.database import transaction
from models import Mentorado, User
from provisioning import audit, preview
from provisioning.audit import Source
from provisioning.errors import ConflictError, MentoradoExistsError, UnknownMentoradoError
from web import admin_labels
from web.access_policy import admin_required
from web.admin_change import DIGEST_FIELD, admin_source, confirm_change, has_typed, preview_change
from web.errors import FieldErrors, HttpError, InvalidInputError
from web.formatting import moment
from web.month_input import FORM_INPUT, SEEN_PREFIX
from web.request_context import flash_user
from web.services import services
from web.validation import ID_CONVERTER, validate_model

console_changes = Blueprint("console_changes", __name__, url_prefix="/admin")

PATH = f"/<any({', '.join(preview.SubjectKind)}):subject>/<{ID_CONVERTER}:subject_id>/<key>"
KINDS = {USER: (User, "pessoa"), PROFILE: (Mentorado, "perfil")}


@dataclass(frozen=True, slots=True)
class ChangeTarget:
    """The change that a URL names: its type, and the user or profile that it is about."""

    type: ChangeType
    key: str
    subject: preview.Subject

    @property
    def subject_url(self) -> str:
        """The page of the subject."""
        if self.subject.kind is USER:
            return url_for("console_users.show", user_id=self.subject.id)
        return url_for("console_mentees.show", mentorado_id=self.subject.id)


@console_changes.get(PATH)
@admin_required
def show_form(subject: str, subject_id: int, key: str) -> ResponseReturnValue:
    """Show the form of a change; for a change without input, its preview."""
    target = _change_target(subject, subject_id, key)
    if target.type.form.model_fields and not request.args:
        return _render_form(target, {})
    return _render_preview(target, request.args)


@console_changes.post(PATH)
@admin_required
def preview_or_confirm(subject: str, subject_id: int, key: str) -> ResponseReturnValue:
    """Show the preview of a change; with the digest of a preview, make the change.

    What another admin has changed since the form was opened is shown first; a profile that was
    deleted or merged meanwhile is answered with its new page.
    """
    target = _change_target(subject, subject_id, key)
    try:
        if DIGEST_FIELD in request.form:
            return _confirm(target)
        if errors := _changed_since_opened(target):
            form, note = request.form, _latest_change(target)
            typed = {n: text for n, text in form.items() if text != form.get(SEEN_PREFIX + n)}
            return _render_form(target, typed, errors, note=note), 409
        return _render_preview(target, request.form)
    except UnknownMentoradoError:
        if (url := successor_url(subject_id)) is None:
            raise
        return redirect(url, code=303)


def _change_target(subject: str, subject_id: int, key: str) -> ChangeTarget:
    kind = preview.SubjectKind(subject)
    change_type = CHANGE_TYPES.get((kind, key))
    if change_type is None:
        raise HttpError("not_found", f"there is no change {key}")
    return ChangeTarget(change_type, key, preview.Subject(kind, subject_id))


def _read_change(target: ChangeTarget, form: Mapping[str, str]) -> preview.ChangeRequest:
    """Return the change with the values of the form; raises InvalidInputError."""
    change_type, subject, now = target.type, target.subject, services().now()
    typed = {name: form[name].strip() for name in change_type.form.model_fields if name in form}
    values = validate_model(change_type.form, typed, FORM_INPUT).model_dump()
    subjects = [subject]
    if change_type.other_subject is not None:
        field, kind = change_type.other_subject
        subjects.append(preview.Subject(kind, values[field]))

    def apply(session: Session, source: Source) -> preview.ChangeResult:
        for other in subjects[1:]:
            model, noun = KINDS[other.kind]
            if session.get(model, other.id) is None:
                message = f"Não existe {noun} nº {other.id}."
                raise InvalidInputError([{"field": field, "message": message}])
        return change_type.apply(session, ChangeInput(subject.id, values, source, now))

    name = f"{subject.kind}/{subject.id}/{target.key}"
    return preview.ChangeRequest(name, values, subjects, apply)


def _render_preview(
    target: ChangeTarget, form: Mapping[str, str], *, note: str = "", errors: FieldErrors = ()
) -> ResponseReturnValue:
    """Render what would change; where it cannot be made, the form with the errors."""
    try:
        change = _read_change(target, form)
        found = preview_change(change)
    except (InvalidInputError, ConflictError, MentoradoExistsError) as err:
        return _render_form(target, form, _field_errors(err)), 422
    before = found.before[target.subject]
    others = [s for s in found.before if s != target.subject]
    page = render_template(
        "console_change_preview.html",
        target=target,
        values=change.values,
        note=note,
        errors=errors,
        reason=form.get("reason", ""),
        digest=found.digest,
        changes=admin_labels.list_differences(found.before, found.after, _names_in(found)),
        conflicts=found.conflicts,
        name=before.get("nome_completo"),
        other=admin_labels.subject_label(others[0], found.before[others[0]]) if others else "",
        counts={name: before[name] for name in before if name not in preview.SHOWN_COLUMNS},
    )
    return page, 409 if note else 422 if errors else 200


def _confirm(target: ChangeTarget) -> ResponseReturnValue:
    """Make the change and redirect to its result; where it cannot be made, show it again."""
    if errors := _errors_of_name(target):
        return _render_preview(target, request.form, errors=errors)
    try:
        change = _read_change(target, request.form)
        confirm_change(target.type.action, change)
    except ConflictError as err:
        note = f"{admin_labels.CONFLICTS[err.kind]} {_latest_change(target)}"
        return _render_preview(target, request.form, note=note.strip())
    except (InvalidInputError, MentoradoExistsError) as err:
        return _render_form(target, request.form, _field_errors(err)), 422
    flash_user(target.type.success_message)
    url = target.subject_url
    if "destino" in change.values:
        url = url_for("console_mentees.show", mentorado_id=change.values["destino"])
    elif target.type.is_deletion:
        url = url_for("console_deleted.show_deleted", mentorado_id=target.subject.id)
    return redirect(url, code=303)


def _errors_of_name(target: ChangeTarget) -> FieldErrors:
    """Return an error where the admin has not typed the name of a profile to be deleted."""
    if not target.type.is_deletion:
        return ()
    with transaction() as session:
        profile = session.get(Mentorado, target.subject.id)
    if profile is None or has_typed(admin_labels.CONFIRMED_NAME, profile.nome_completo):
        return ()  # a second click on the same button finds no profile
    message = f"Digite «{profile.nome_completo}» para confirmar."
    return [{"field": admin_labels.CONFIRMED_NAME, "message": message}]


def _latest_change(target: ChangeTarget) -> str:
    """Return a sentence about the newest change of the subject, if another admin made it."""
    is_user, number = target.subject.kind is USER, target.subject.id
    about = {"user_id": number} if is_user else {"mentorado_id": number}
    with transaction() as session:
        event = next(iter(audit.read_history(session, **about, limit=1)), None)
        if event is None or event.actor_id in (None, admin_source().actor_id):
            return ""
        actor = session.get(User, event.actor_id)
    name = (actor and actor.name) or "outra pessoa da equipe"
    return f"Última mudança: «{admin_labels.event_name(event)}», por {name}, em {moment(event.at)}."


def _names_in(found: preview.Preview) -> admin_labels.Names:
    """Return the names of the users and profiles that the facts of a preview refer to."""
    snapshots = [*found.before.values(), *found.after.values()]
    columns = {
        "user_id": (User.id, User.name),
        "mentorado_id": (Mentorado.id, Mentorado.nome_completo),
    }
    names: dict[tuple[str, int], str] = {}
    for fact, (key, name) in columns.items():
        if ids := {facts[fact] for facts in snapshots if facts.get(fact) is not None}:
            with transaction() as session:
                rows = session.execute(select(key, name).where(key.in_(ids)))
                names |= {(fact, n): f"{text or 'sem nome'} (nº {n})" for n, text in rows}
    return names


def _render_form(
    target: ChangeTarget, form: Mapping[str, str], errors: FieldErrors = (), *, note: str = ""
) -> str:
    """Render the form of the change, filled in with stored values."""
    stored = _stored_values(target)
    return render_template(
        "console_change_form.html",
        target=target,
        values={name: form.get(name, stored[name]) for name in stored},
        stored=stored,
        errors=errors,
        note=note,
    )


def _changed_since_opened(target: ChangeTarget) -> FieldErrors:
    """Return an error for each field that another admin has changed since the form was opened."""
    if not any(SEEN_PREFIX + name in request.form for name in target.type.form.model_fields):
        return ()
    return [
        {"field": name, "message": f"mudou para «{value or 'em branco'}» enquanto você editava."}
        for name, value in _stored_values(target).items()
        if request.form.get(SEEN_PREFIX + name, value) != value
    ]


def _stored_values(target: ChangeTarget) -> dict[str, str]:
    """Return by field of the form the stored value as text, blank where there is none."""
    profile = None
    if target.subject.kind is PROFILE:
        with transaction() as session:
            profile = session.get(Mentorado, target.subject.id)
        if profile is None:
            raise UnknownMentoradoError(f"there is no mentorado {target.subject.id}")
    values = {name: getattr(profile, name, None) for name in target.type.form.model_fields}
    return {name: "" if value is None else str(value) for name, value in values.items()}


def _field_errors(err: InvalidInputError | ConflictError | MentoradoExistsError) -> FieldErrors:
    if isinstance(err, InvalidInputError):
        return err.errors
    if isinstance(err, MentoradoExistsError):
        with transaction() as session:
            other = session.get(Mentorado, err.mentorado_id)
        name = f"{other.nome_completo}, perfil" if other else "O perfil"
        message = f"{name} nº {err.mentorado_id}, já tem este e-mail. Una os dois perfis."
        return [{"field": "email", "message": message}]
    return [{"field": "", "message": admin_labels.CONFLICTS[err.kind]}]
