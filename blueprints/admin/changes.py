"""Changes in the admin console: form, preview, and confirmation with a reason."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Literal

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import BeforeValidator
from sqlalchemy.orm import Session

from core.database import transaction
from models import Mentorado
from provisioning import admin_actions, attempts, merge
from provisioning.admin_actions import ConflictError
from provisioning.audit import Source
from provisioning.merge_rows import MergeConflict, MergeSpec, Prefer
from provisioning.preregistration import MentoradoExistsError
from provisioning.preview import (
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
from web.admin_change import admin_source, apply_admin_work, run_with_retry
from web.admin_labels import CONFLICTS, FIELDS, list_differences
from web.errors import FieldErrors, HttpError, InvalidInputError
from web.month_input import FORM_INPUT, parse_typed_number
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
    WithReason,
    validate_model,
)

FormData = dict[str, Any]  # the validated form
Action = Callable[[Session, int, FormData, Source, datetime], list[str]]
TypedAmount = Annotated[Amount, BeforeValidator(parse_typed_number)]
TypedId = Annotated[Id, BeforeValidator(parse_typed_number)]
BlankAsNone = BeforeValidator(lambda value: value or None)

USER, PROFILE = "pessoa", "mentorado"
MERGE = "unir"
VIEWS: dict[str, tuple[str, Callable[[Session, int], Snapshot]]] = {
    USER: ("Pessoa nº {}", user_snapshot),
    PROFILE: ("Perfil nº {}", profile_snapshot),
}


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
    """One change to a subject; `other_subject` is the form field of a second one, and its kind."""

    title: str
    success_message: str
    explanation: str
    apply: Action
    form: type[Body] = NoFields
    other_subject: tuple[str, str] | None = None
    removes_subject: bool = False

    def snapshot_function(
        self, subject: str, subject_id: int, form_data: FormData
    ) -> SnapshotFunction:
        """Return a function that takes a snapshot of each affected user and profile, by label."""
        subjects = [(subject, subject_id)]
        if self.other_subject is not None:
            name, kind = self.other_subject
            subjects.append((kind, form_data[name]))
        views = [(VIEWS[kind], number) for kind, number in subjects]
        return lambda s: {label.format(number): view(s, number) for (label, view), number in views}


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
        "A pessoa fica fora a partir do próximo pedido, e as varreduras não criam perfil para ela.",
        lambda s, user_id, _, source, now: admin_actions.block(s, user_id, source=source, now=now),
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
        "O perfil fica sem dono e espera por quem confirmar o e-mail dele.",
        lambda s, mentorado_id, _, source, now: admin_actions.unlink(
            s, mentorado_id, source=source, now=now
        ),
    ),
    (PROFILE, "desativar"): ChangeType(
        "Desativar perfil",
        "Perfil desativado.",
        "A pessoa vê que o perfil está inativo; os dados continuam guardados.",
        _set_active("nao"),
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
        "Um e-mail corrigido vale pelas regras de sempre: quem o confirmou recebe o perfil.",
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
        "Perfil excluído.",
        "O perfil e tudo o que é dele são apagados, e o acesso do dono fica bloqueado.",
        lambda s, mentorado_id, _, source, now: admin_actions.remove(
            s, mentorado_id, source=source, now=now
        ),
        removes_subject=True,
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
        return ChangeRequest(
            name=f"{self.subject}/{self.subject_id}/{self.key}",
            values=form_data,
            change=lambda s, source: self.change_type.apply(
                s, self.subject_id, form_data, source, now
            ),
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
    """Show the preview of a change; with the digest of a preview, make the change."""
    requested = _requested_change(subject, subject_id, key)
    if DIGEST_FIELD in request.form:
        return _apply_confirmed(requested)
    return _render_preview(requested, request.form)


def _requested_change(subject: str, subject_id: int, key: str) -> RequestedChange:
    change_type = CHANGE_TYPES.get((subject, key))
    if change_type is None:
        raise HttpError("not_found", f"there is no change {key}")
    return RequestedChange(change_type, subject, subject_id, key)


def _render_preview(
    requested: RequestedChange, form: Mapping[str, str], note: str = ""
) -> ResponseReturnValue:
    try:
        form_data = requested.read_form(form)
        change_preview, conflicts = _preview(requested, form_data)
    except REPORTED_ERRORS as err:
        return _render_form(requested, form, _field_errors(err))
    page = render_template(
        "console_change_preview.html",
        requested=requested,
        form_data=form_data,
        note=note,
        digest=change_preview.digest,
        changes=list_differences(change_preview.before, change_preview.after),
        conflicts=conflicts,
    )
    return page, 409 if note else 200


def _preview(
    requested: RequestedChange, form_data: FormData
) -> tuple[Preview, tuple[MergeConflict, ...]]:
    source, now = admin_source(), services().now()
    change = requested.change_request(form_data)
    conflicts: tuple[MergeConflict, ...] = ()

    def merge_once(session: Session, source: Source) -> list[str]:
        nonlocal conflicts
        spec = merge_spec(requested.subject_id, form_data, source)
        result = merge.merge(session, spec, source=source, now=now)
        conflicts = result.conflicts
        return list(result.clerk_ids)

    if requested.key == MERGE:
        change = replace(change, change=merge_once)
    change_preview = run_with_retry(lambda session: preview(session, change, source=source))
    return change_preview, conflicts


def _apply_confirmed(requested: RequestedChange) -> ResponseReturnValue:
    try:
        form_data = requested.read_form(request.form)
        reason = validate_model(WithReason, {"reason": request.form.get("reason", "")}).reason
        change, source = requested.change_request(form_data), admin_source(reason)
        digest = request.form[DIGEST_FIELD]
        apply_admin_work(requested.key, lambda s: confirm(s, change, digest=digest, source=source))
    except ConflictError as err:
        return _render_preview(requested, request.form, CONFLICTS[err.kind])
    except (InvalidInputError, MentoradoExistsError) as err:
        return _render_form(requested, request.form, _field_errors(err))
    flash_user(requested.change_type.success_message)
    return redirect(_result_url(requested, form_data), code=303)


def _render_form(
    requested: RequestedChange, form: Mapping[str, str], errors: FieldErrors = ()
) -> ResponseReturnValue:
    """Render the form of the change, filled in with stored values."""
    with transaction() as session:
        is_profile = requested.subject == PROFILE
        profile = session.get(Mentorado, requested.subject_id) if is_profile else None
    fields = requested.change_type.form.model_fields
    stored = {name: getattr(profile, name, None) for name in fields}
    page = render_template(
        "console_change_form.html",
        requested=requested,
        labels=FIELDS,
        values={name: form.get(name, stored[name]) for name in fields},
        errors=errors,
    )
    return page, 422 if errors else 200


def _field_errors(err: Exception) -> FieldErrors:
    if isinstance(err, InvalidInputError):
        return err.errors
    if isinstance(err, MentoradoExistsError):
        message = f"O perfil nº {err.mentorado_id} já tem este e-mail. Una os dois perfis."
        return [{"field": "", "message": message}]
    return [{"field": "", "message": CONFLICTS[err.kind]}] if isinstance(err, ConflictError) else []


def _result_url(requested: RequestedChange, form_data: FormData) -> str:
    """Return the page with the result: of the subject, or of the profile it was merged into."""
    if not requested.change_type.removes_subject:
        return requested.subject_url
    if "destino" in form_data:
        return url_for("console_mentees.show", mentorado_id=form_data["destino"])
    return url_for("console_mentees.index")
