"""Changes in the admin console: form, preview, and confirmation with a reason."""

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Literal

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import BeforeValidator
from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.admin.deleted import successor_url
from core.database import transaction
from models import Mentorado, User
from provisioning import admin_actions, attempts, audit, deleted_profiles, merge
from provisioning.admin_actions import ConflictError, UnknownMentoradoError
from provisioning.audit import Source
from provisioning.merge import MergeConflict, MergeSpec, Prefer
from provisioning.preregistration import MentoradoExistsError
from provisioning.preview import (
    PROFILE_COLUMNS,
    ChangeRequest,
    Preview,
    Snapshot,
    SnapshotFunction,
    confirm,
    preview,
    profile_snapshot,
    user_snapshot,
)
from web.access_policy import admin_required
from web.admin_change import admin_source, apply_admin_work, run_with_retry, typed_reason
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
from web.formatting import moment
from web.month_input import FORM_INPUT, SEEN_PREFIX, parse_typed_number
from web.request_context import flash_user
from web.services import services
from web.validation import (
    ID_CONVERTER,
    Amount,
    Body,
    Email,
    Id,
    Name,
    WebAddress,
    validate_model,
)

FormData = dict[str, Any]  # the validated form
Action = Callable[[Session, int, FormData, Source, datetime], list[str]]
TypedAmount = Annotated[Amount, BeforeValidator(parse_typed_number)]
TypedId = Annotated[Id, BeforeValidator(parse_typed_number)]
BlankAsNone = BeforeValidator(lambda value: value or None)

USER, PROFILE = "pessoa", "mentorado"
MERGE = "unir"
VIEWS: dict[str, Callable[[Session, int], Snapshot]] = {
    USER: user_snapshot,
    PROFILE: profile_snapshot,
}
MODELS = {USER: User, PROFILE: Mentorado}
MISSING = {USER: "Não existe pessoa nº {}.", PROFILE: "Não existe perfil nº {}."}


class NoFields(Body):
    """A change without input."""


class TargetUser(Body):
    """The new owner of the profile."""

    pessoa: TypedId


class MergeTarget(Body):
    """The profile to merge into, and the profile whose row stays in a conflict."""

    destino: TypedId
    prefere: Literal["into", "from"] = "into"


class ProfileFields(Body):
    """The fields of a profile."""

    nome_completo: Name
    email: Annotated[Email | None, BlankAsNone]
    foto_url: Annotated[WebAddress | None, BlankAsNone]
    meta_faturamento: TypedAmount
    meta_leads: TypedAmount
    meta_procedimentos: TypedAmount
    meta_posts: TypedAmount
    meta_stories: TypedAmount


@dataclass(frozen=True, slots=True)
class ChangeType:
    """One change to a subject; `other_subject` is the form field of a second one, and its kind.

    `is_danger`: people lose access or data; `needs_name`: the admin has to type the subject's name.
    """

    title: str
    success_message: str
    explanation: str
    apply: Action
    form: type[Body] = NoFields
    other_subject: tuple[str, str] | None = None
    removes_subject: bool = False
    is_danger: bool = False
    needs_name: bool = False

    def snapshot_function(
        self, subject: str, subject_id: int, form_data: FormData
    ) -> SnapshotFunction:
        """Return a function that takes a snapshot of each affected user and profile, by key."""
        subjects = [(subject, subject_id)]
        if self.other_subject is not None:
            name, kind = self.other_subject
            subjects.append((kind, form_data[name]))
        return lambda s: {f"{kind}/{number}": VIEWS[kind](s, number) for kind, number in subjects}

    def check_other_subject(self, session: Session, form_data: FormData) -> None:
        """Raise InvalidInputError for the number of a user or profile that does not exist."""
        if self.other_subject is None:
            return
        name, kind = self.other_subject
        if session.get(MODELS[kind], form_data[name]) is None:
            message = MISSING[kind].format(form_data[name])
            raise InvalidInputError([{"field": name, "message": message}])


def merge_spec(mentorado_id: int, form_data: FormData, source: Source) -> MergeSpec:
    """Return the merge for the form's data."""
    return MergeSpec(
        mentorado_id, form_data["destino"], Prefer(form_data["prefere"]), source.request_id
    )


def _merge(
    session: Session, mentorado_id: int, form_data: FormData, source: Source, now: datetime
) -> list[str]:
    spec = merge_spec(mentorado_id, form_data, source)
    return list(merge.merge(session, spec, source=source, now=now).clerk_ids)


def _edit(
    session: Session, mentorado_id: int, form_data: FormData, source: Source, now: datetime
) -> list[str]:
    return admin_actions.edit(session, mentorado_id, changes=form_data, source=source, now=now)


def _set_active(value: str) -> Action:
    return lambda s, mentorado_id, _, source, now: _edit(
        s, mentorado_id, {"ativo": value}, source, now
    )


CHANGE_TYPES: dict[tuple[str, str], ChangeType] = {
    (USER, "bloquear"): ChangeType(
        "Bloquear acesso",
        "Acesso bloqueado.",
        "A pessoa perde o acesso na hora. O perfil e os dados ficam guardados.",
        lambda s, user_id, _, source, now: admin_actions.block(s, user_id, source=source, now=now),
        is_danger=True,
    ),
    (USER, "liberar"): ChangeType(
        "Liberar acesso",
        "Acesso liberado.",
        "A pessoa volta a entrar no próximo pedido; se não tiver perfil, ganha um pelas regras.",
        lambda s, user_id, _, source, __: admin_actions.allow(s, user_id, source=source),
    ),
    (USER, "descartar"): ChangeType(
        "Descartar tentativas",
        "Tentativas descartadas.",
        "O registro das falhas é esquecido; a próxima varredura trata a pessoa como nova.",
        lambda s, user_id, _, source, __: attempts.delete_attempt(s, user_id, source=source),
    ),
    (PROFILE, "vincular"): ChangeType(
        "Vincular perfil",
        "Perfil vinculado.",
        "O perfil passa a ser da pessoa; um perfil automático dela, sem uso, dá lugar a este.",
        lambda s, mentorado_id, form_data, source, now: admin_actions.link(
            s, mentorado_id, form_data["pessoa"], source=source, now=now
        ),
        form=TargetUser,
        other_subject=("pessoa", USER),
    ),
    (PROFILE, "desvincular"): ChangeType(
        "Desvincular perfil",
        "Perfil desvinculado.",
        "A pessoa deixa de ver este perfil. Ele fica guardado e espera por quem confirmar o e-mail "
        "dele.",
        lambda s, mentorado_id, _, source, now: admin_actions.unlink(
            s, mentorado_id, source=source, now=now
        ),
        is_danger=True,
    ),
    (PROFILE, "desativar"): ChangeType(
        "Desativar perfil",
        "Perfil desativado.",
        "A pessoa vê que o perfil está inativo; os dados continuam guardados.",
        _set_active("nao"),
        is_danger=True,
    ),
    (PROFILE, "reativar"): ChangeType(
        "Reativar perfil",
        "Perfil reativado.",
        "A pessoa volta ao painel no próximo pedido.",
        _set_active("sim"),
    ),
    (PROFILE, "corrigir"): ChangeType(
        "Corrigir perfil",
        "Perfil corrigido.",
        "Quem tiver o novo e-mail confirmado recebe este perfil no próximo acesso.",
        _edit,
        form=ProfileFields,
    ),
    (PROFILE, MERGE): ChangeType(
        "Unir a outro perfil",
        "Perfis unidos.",
        "Tudo deste perfil passa ao outro, e este deixa de existir; o que não couber é arquivado.",
        _merge,
        form=MergeTarget,
        other_subject=("destino", PROFILE),
        removes_subject=True,
    ),
    (PROFILE, "excluir"): ChangeType(
        "Excluir perfil",
        "Perfil excluído. Dá para restaurar por 30 dias.",
        "O perfil e tudo o que é dele são apagados, e a pessoa perde o acesso. Dá para restaurar "
        "por 30 dias.",
        lambda s, mentorado_id, _, source, now: deleted_profiles.remove(
            s, mentorado_id, source=source, now=now
        ),
        removes_subject=True,
        is_danger=True,
        needs_name=True,
    ),
}


console_changes = Blueprint("console_changes", __name__, url_prefix="/admin")

PATH = f"/<any({USER}, {PROFILE}):subject>/<{ID_CONVERTER}:subject_id>/<key>"
DIGEST_FIELD = "marca"  # the hidden field with the digest of the preview
REPORTED_ERRORS = (InvalidInputError, ConflictError, MentoradoExistsError)


@dataclass(frozen=True, slots=True)
class RequestedChange:
    """A change type and the subject that it applies to."""

    change_type: ChangeType
    subject: str
    subject_id: int
    key: str

    def read_form(self, form: Mapping[str, str]) -> FormData:
        """Validate the form; raises InvalidInputError."""
        fields = {name: form.get(name, "").strip() for name in self.change_type.form.model_fields}
        filled = {name: value for name, value in fields.items() if value or name in form}
        return validate_model(self.change_type.form, filled, FORM_INPUT).model_dump()

    @property
    def subject_url(self) -> str:
        """The page of the subject."""
        if self.subject == USER:
            return url_for("console_users.show", user_id=self.subject_id)
        return url_for("console_mentees.show", mentorado_id=self.subject_id)

    def change_request(self, form_data: FormData) -> ChangeRequest:
        """Return the change with its values, to be previewed or confirmed."""
        now, is_user = services().now(), self.subject == USER

        def change(session: Session, source: Source) -> list[str]:
            self.change_type.check_other_subject(session, form_data)
            return self.change_type.apply(session, self.subject_id, form_data, source, now)

        return ChangeRequest(
            name=f"{self.subject}/{self.subject_id}/{self.key}",
            values=form_data,
            change=change,
            take_snapshots=self.change_type.snapshot_function(
                self.subject, self.subject_id, form_data
            ),
            user_id=self.subject_id if is_user else None,
            mentorado_id=None if is_user else self.subject_id,
        )


@console_changes.get(PATH)
@admin_required
def show_form(subject: str, subject_id: int, key: str) -> ResponseReturnValue:
    """Show the form of a change; for a change without input, its preview."""
    requested = _requested_change(subject, subject_id, key)
    if requested.change_type.form is not NoFields and not request.args:
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
            return _apply_confirmed(requested)
        return _render_preview(requested, request.form)
    except UnknownMentoradoError:
        if (url := successor_url(subject_id)) is None:
            raise
        return redirect(url, code=303)


def _requested_change(subject: str, subject_id: int, key: str) -> RequestedChange:
    change_type = CHANGE_TYPES.get((subject, key))
    if change_type is None:
        raise HttpError("not_found", f"there is no change {key}")
    return RequestedChange(change_type, subject, subject_id, key)


def _render_preview(
    requested: RequestedChange,
    form: Mapping[str, str],
    *,
    note: str = "",
    errors: FieldErrors = (),
) -> ResponseReturnValue:
    if changed := _changed_since_opened(requested, form):
        return _render_changed_form(requested, form, changed)
    try:
        form_data = requested.read_form(form)
        change_preview, conflicts, names = _preview(requested, form_data)
    except REPORTED_ERRORS as err:
        return _render_form(requested, form, _field_errors(err))
    before, *others = change_preview.before.values()
    other_keys = list(change_preview.before)[1:]
    page = render_template(
        "console_change_preview.html",
        requested=requested,
        form_data=form_data,
        note=note,
        errors=errors,
        reason=form.get("reason", ""),
        digest=change_preview.digest,
        changes=list_differences(change_preview.before, change_preview.after, names),
        conflicts=conflicts,
        name=before.get("nome_completo"),
        other=next(map(subject_label, other_keys, others), ""),
        counts={name: before[name] for name in before if name not in PROFILE_COLUMNS},
        confirmed_name_field=CONFIRMED_NAME,
    )
    return page, 409 if note else 422 if errors else 200


def _preview(
    requested: RequestedChange, form_data: FormData
) -> tuple[Preview, tuple[MergeConflict, ...], Names]:
    source, now = admin_source(), services().now()
    change = requested.change_request(form_data)
    conflicts: tuple[MergeConflict, ...] = ()

    def merge_once(session: Session, source: Source) -> list[str]:
        nonlocal conflicts
        requested.change_type.check_other_subject(session, form_data)
        spec = merge_spec(requested.subject_id, form_data, source)
        result = merge.merge(session, spec, source=source, now=now)
        conflicts = result.conflicts
        return list(result.clerk_ids)

    def work(session: Session) -> tuple[Preview, Names]:
        change_preview = preview(session, change, source=source)
        return change_preview, _names_in(session, change_preview)

    if requested.key == MERGE:
        change = replace(change, change=merge_once)
    change_preview, names = run_with_retry(work)
    return change_preview, conflicts, names


def _names_in(session: Session, change_preview: Preview) -> Names:
    """Return the names of the users and profiles that the facts of a preview refer to."""
    snapshots = [*change_preview.before.values(), *change_preview.after.values()]
    names: dict[tuple[str, int], str] = {}
    for fact, model, name in (
        ("user_id", User, User.name),
        ("mentorado_id", Mentorado, Mentorado.nome_completo),
    ):
        ids = {facts[fact] for facts in snapshots if facts.get(fact) is not None}
        rows = session.execute(select(model.id, name).where(model.id.in_(ids))) if ids else ()
        names |= {(fact, number): f"{text or 'sem nome'} (nº {number})" for number, text in rows}
    return names


def _changed_since_opened(requested: RequestedChange, form: Mapping[str, str]) -> dict[str, str]:
    """Return by field the stored value that another admin has changed since the form was opened."""
    seen = {
        name: form.get(f"{SEEN_PREFIX}{name}") for name in requested.change_type.form.model_fields
    }
    if all(text is None for text in seen.values()):
        return {}
    stored = _stored_values(requested)
    return {name: stored[name] for name, text in seen.items() if text not in (None, stored[name])}


def _render_changed_form(
    requested: RequestedChange, form: Mapping[str, str], changed: Mapping[str, str]
) -> ResponseReturnValue:
    """Render the form again: what this admin has typed, and the newest values of other fields."""
    kept = {
        name: form[name]
        for name in requested.change_type.form.model_fields
        if name in form and form[name] != form.get(f"{SEEN_PREFIX}{name}")
    }
    errors: FieldErrors = [
        {"field": name, "message": f"mudou para «{value or 'em branco'}» enquanto você editava."}
        for name, value in changed.items()
    ]
    page, _ = _render_form(requested, kept, errors, note=_latest_change(requested))
    return page, 409


def _apply_confirmed(requested: RequestedChange) -> ResponseReturnValue:
    try:
        form_data = requested.read_form(request.form)
        reason = typed_reason()
        if errors := _errors_of_name(requested):
            return _render_preview(requested, request.form, errors=errors)
        change, source = requested.change_request(form_data), admin_source(reason)
        digest = request.form[DIGEST_FIELD]
        apply_admin_work(requested.key, lambda s: confirm(s, change, digest=digest, source=source))
    except ConflictError as err:
        note = f"{CONFLICTS[err.kind]} {_latest_change(requested)}"
        return _render_preview(requested, request.form, note=note.strip())
    except (InvalidInputError, MentoradoExistsError) as err:
        return _render_form(requested, request.form, _field_errors(err))
    flash_user(requested.change_type.success_message)
    return redirect(_result_url(requested, form_data), code=303)


def _errors_of_name(requested: RequestedChange) -> FieldErrors:
    """Return an error where the admin has not typed the name of a profile to be deleted."""
    if not requested.change_type.needs_name:
        return ()
    with transaction() as session:
        profile = session.get(Mentorado, requested.subject_id)
    typed = request.form.get(CONFIRMED_NAME, "")
    if profile is None or _plain(typed) == _plain(profile.nome_completo):
        return ()  # a second click on the same button finds no profile
    message = f"Digite «{profile.nome_completo}» para confirmar."
    return [{"field": CONFIRMED_NAME, "message": message}]


def _plain(name: str) -> str:
    """Return a name in lower case, without accents and repeated blanks."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    return " ".join("".join(c for c in letters if not unicodedata.combining(c)).split())


def _latest_change(requested: RequestedChange) -> str:
    """Return a sentence about the newest change of the subject, if another admin made it."""
    is_user = requested.subject == USER
    user_id, mentorado_id = (
        (requested.subject_id, None) if is_user else (None, requested.subject_id)
    )
    with transaction() as session:
        newest = audit.read_history(session, user_id=user_id, mentorado_id=mentorado_id, limit=1)
        event = next((e for e in newest if e.actor_id not in (None, admin_source().actor_id)), None)
        actor = session.get(User, event.actor_id) if event else None
    if event is None:
        return ""
    name = (actor.name if actor else None) or "outra pessoa da equipe"
    return f"Última mudança: «{event_name(event)}», por {name}, em {moment(event.at)}."


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


def _stored_values(requested: RequestedChange) -> dict[str, str]:
    """Return by field of the form the stored value as text, blank where there is none."""
    with transaction() as session:
        is_profile = requested.subject == PROFILE
        profile = session.get(Mentorado, requested.subject_id) if is_profile else None
    if is_profile and profile is None:
        raise UnknownMentoradoError(f"there is no mentorado {requested.subject_id}")
    fields = requested.change_type.form.model_fields
    values = {name: getattr(profile, name, None) for name in fields}
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


def _result_url(requested: RequestedChange, form_data: FormData) -> str:
    """Return the page with the result: of the subject, or of the profile it was merged into."""
    if not requested.change_type.removes_subject:
        return requested.subject_url
    if "destino" in form_data:
        return url_for("console_mentees.show", mentorado_id=form_data["destino"])
    return url_for("console_deleted.show", mentorado_id=requested.subject_id)
