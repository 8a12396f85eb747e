"""A change at the support desk: asked for, shown, confirmed with a reason, and done as shown."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from web.admin_labels import CONFLICTS, FIELDS, differences
from web.errors import Errors, InvalidInputError, NotFoundError
from web.month_input import BY_HAND, as_written
from web.request_context import flash_user
from web.services import services
from web.validation import ID, Amount, Body, Email, Id, Name, WebAddress, WithReason, checked

FormData = dict[str, Any]  # what the form said, checked
Action = Callable[[Session, int, FormData, Source, datetime], list[str]]
Written = Annotated[Amount, BeforeValidator(as_written)]
WrittenId = Annotated[Id, BeforeValidator(as_written)]
Blank = BeforeValidator(lambda value: value or None)

PERSON, PROFILE = "pessoa", "mentorado"
VIEWS: dict[str, tuple[str, Callable[[Session, int], Snapshot]]] = {
    PERSON: ("Pessoa nº {}", user_snapshot),
    PROFILE: ("Perfil nº {}", profile_snapshot),
}


class Nothing(Body):
    """Nothing needs to be told."""


class TargetUser(Body):
    """Whose the profile shall be."""

    pessoa: WrittenId


class MergeTarget(Body):
    """Into which profile, and whose row stays where there is room for one."""

    destino: WrittenId
    prefere: Literal["into", "from"] = "into"


class ProfileFields(Body):
    """The profile as the form has it."""

    nome_completo: Name
    email: Annotated[Email | None, Blank]
    foto_url: Annotated[WebAddress | None, Blank]
    meta_faturamento: Written
    meta_leads: Written
    meta_procedimentos: Written
    meta_posts: Written
    meta_stories: Written


@dataclass(frozen=True, slots=True)
class ChangeType:
    """One change to a subject; `other` is the field that names a second one, and its kind."""

    title: str
    done: str
    words: str
    do: Action
    asks: type[Body] = Nothing
    other: tuple[str, str] | None = None
    ends_it: bool = False  # the subject will not be there any longer

    def look(self, subject: str, subject_id: int, told: FormData) -> SnapshotFunction:
        """How to look at everything that it is about, by its name for people."""
        about = [(subject, subject_id)]
        if self.other is not None:
            name, kind = self.other
            about.append((kind, told[name]))
        views = [(VIEWS[kind], number) for kind, number in about]
        return lambda s: {label.format(number): view(s, number) for (label, view), number in views}


def merge_spec_of(mentorado_id: int, told: FormData, source: Source) -> MergeSpec:
    """What a merge is told."""
    return MergeSpec(mentorado_id, told["destino"], Prefer(told["prefere"]), source.request_id)


def _merge(session: Session, own: int, told: FormData, source: Source, now: datetime) -> list[str]:
    journey = merge_spec_of(own, told, source)
    return list(merge.merge(session, journey, source=source, now=now).clerk_ids)


def _edit(session: Session, own: int, told: FormData, source: Source, now: datetime) -> list[str]:
    return admin_actions.edit(session, own, changes=told, source=source, now=now)


def _set_active(value: str) -> Action:
    return lambda s, own, _, entry, now: _edit(s, own, {"ativo": value}, entry, now)


CHANGE_TYPES: dict[tuple[str, str], ChangeType] = {
    (PERSON, "bloquear"): ChangeType(
        "Bloquear acesso",
        "Acesso bloqueado.",
        "A pessoa fica fora a partir do próximo pedido, e as varreduras não criam perfil para ela.",
        lambda s, own, _, entry, now: admin_actions.block(s, own, source=entry, now=now),
    ),
    (PERSON, "liberar"): ChangeType(
        "Liberar acesso",
        "Acesso liberado.",
        "A pessoa volta a entrar no próximo pedido; se não tiver perfil, ganha um pelas regras.",
        lambda s, own, _, entry, __: admin_actions.allow(s, own, source=entry),
    ),
    (PERSON, "descartar"): ChangeType(
        "Descartar tentativas",
        "Tentativas descartadas.",
        "O registro das falhas é esquecido; a próxima varredura trata a pessoa como nova.",
        lambda s, own, _, entry, __: attempts.delete_attempt(s, own, source=entry),
    ),
    (PROFILE, "vincular"): ChangeType(
        "Vincular perfil",
        "Perfil vinculado.",
        "O perfil passa a ser da pessoa; um perfil automático dela, sem uso, dá lugar a este.",
        lambda s, own, told, entry, now: admin_actions.link(
            s, own, told["pessoa"], source=entry, now=now
        ),
        asks=TargetUser,
        other=("pessoa", PERSON),
    ),
    (PROFILE, "desvincular"): ChangeType(
        "Desvincular perfil",
        "Perfil desvinculado.",
        "O perfil fica sem dono e espera por quem confirmar o e-mail dele.",
        lambda s, own, _, entry, now: admin_actions.unlink(s, own, source=entry, now=now),
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
        asks=ProfileFields,
    ),
    (PROFILE, "unir"): ChangeType(
        "Unir a outro perfil",
        "Perfis unidos.",
        "Tudo deste perfil passa ao outro, e este deixa de existir; o que não couber é arquivado.",
        _merge,
        asks=MergeTarget,
        other=("destino", PROFILE),
        ends_it=True,
    ),
    (PROFILE, "excluir"): ChangeType(
        "Excluir perfil",
        "Perfil excluído.",
        "O perfil e tudo o que é dele são apagados, e o acesso do dono fica bloqueado.",
        lambda s, own, _, entry, now: admin_actions.remove(s, own, source=entry, now=now),
        ends_it=True,
    ),
}


console_changes = Blueprint("console_changes", __name__, url_prefix="/admin")

PATH = f"/<any({PERSON}, {PROFILE}):subject>/<{ID}:subject_id>/<key>"
MARK = "marca"  # the field that says what was shown
REFUSALS = (InvalidInputError, ConflictError, MentoradoExistsError)


@dataclass(frozen=True, slots=True)
class RequestedChange:
    """An offer, and what it is about."""

    offer: ChangeType
    subject: str
    subject_id: int
    key: str

    def read(self, given: Mapping[str, str]) -> FormData:
        """Check what was told; raises InvalidInputError."""
        fields = {name: given.get(name, "").strip() for name in self.offer.asks.model_fields}
        filled = {name: value for name, value in fields.items() if value or name in given}
        return checked(self.offer.asks, filled, BY_HAND).model_dump()

    @property
    def page(self) -> str:
        """The page of what it is about."""
        if self.subject == PERSON:
            return url_for("console_users.show", user_id=self.subject_id)
        return url_for("console_mentees.show", mentorado_id=self.subject_id)

    def proposal(self, told: FormData) -> ChangeRequest:
        """The change with its values, to be previewed or confirmed."""
        now, is_person = services().now(), self.subject == PERSON
        return ChangeRequest(
            name=f"{self.subject}/{self.subject_id}/{self.key}",
            values=told,
            change=lambda s, entry: self.offer.do(s, self.subject_id, told, entry, now),
            look=self.offer.look(self.subject, self.subject_id, told),
            user_id=self.subject_id if is_person else None,
            mentorado_id=None if is_person else self.subject_id,
        )


@console_changes.get(PATH)
@admin_required
def show_form(subject: str, subject_id: int, key: str) -> ResponseReturnValue:
    """What the change needs to be told; where that is nothing, what it would come to."""
    matter = _matter(subject, subject_id, key)
    if matter.offer.asks is not Nothing and not request.args:
        return _form(matter, {})
    return _shown(matter, request.args)


@console_changes.post(PATH)
@admin_required
def preview_or_confirm(subject: str, subject_id: int, key: str) -> ResponseReturnValue:
    """Show what the change would come to; with the mark of what was shown, do it."""
    matter = _matter(subject, subject_id, key)
    return _done(matter) if MARK in request.form else _shown(matter, request.form)


def _matter(subject: str, subject_id: int, key: str) -> RequestedChange:
    offer = CHANGE_TYPES.get((subject, key))
    if offer is None:
        raise NotFoundError(f"there is no change {key}")
    return RequestedChange(offer, subject, subject_id, key)


def _shown(
    matter: RequestedChange, given: Mapping[str, str], note: str = ""
) -> ResponseReturnValue:
    try:
        told = matter.read(given)
        shown, clashes = _preview(matter, told)
    except REFUSALS as err:
        return _form(matter, given, _errors(err))
    page = render_template(
        "console_confirm.html",
        matter=matter,
        given=told,
        note=note,
        mark=shown.digest,
        changes=differences(shown.before, shown.after),
        clashes=clashes,
    )
    return page, 409 if note else 200


def _preview(matter: RequestedChange, told: FormData) -> tuple[Preview, tuple[MergeConflict, ...]]:
    entry, proposal, now = admin_source(), matter.proposal(told), services().now()

    def work(session: Session) -> tuple[Preview, tuple[MergeConflict, ...]]:
        shown = preview(session, proposal, source=entry)
        if matter.key != "unir":
            return shown, ()
        journey = merge_spec_of(matter.subject_id, told, entry)
        return shown, merge.preview(session, journey, source=entry, now=now).conflicts

    return run_with_retry(work)


def _done(matter: RequestedChange) -> ResponseReturnValue:
    try:
        told = matter.read(request.form)
        reason = checked(WithReason, {"reason": request.form.get("reason", "")}).reason
        proposal, entry = matter.proposal(told), admin_source(reason)
        digest = request.form[MARK]
        apply_admin_work(matter.key, lambda s: confirm(s, proposal, digest=digest, source=entry))
    except ConflictError as err:
        return _shown(matter, request.form, CONFLICTS[err.kind])
    except (InvalidInputError, MentoradoExistsError) as err:
        return _form(matter, request.form, _errors(err))
    flash_user(matter.offer.done)
    return redirect(_afterwards(matter, told), code=303)


def _form(
    matter: RequestedChange, given: Mapping[str, str], errors: Errors = ()
) -> ResponseReturnValue:
    """What the change asks for, filled in as far as it is known."""
    with transaction() as session:
        is_profile = matter.subject == PROFILE
        profile = session.get(Mentorado, matter.subject_id) if is_profile else None
    fields = matter.offer.asks.model_fields
    known = {name: getattr(profile, name, None) for name in fields}
    page = render_template(
        "console_ask.html",
        matter=matter,
        labels=FIELDS,
        values={name: given.get(name, known[name]) for name in fields},
        errors=errors,
    )
    return page, 422 if errors else 200


def _errors(err: Exception) -> Errors:
    if isinstance(err, InvalidInputError):
        return err.errors
    if isinstance(err, MentoradoExistsError):
        words = f"O perfil nº {err.mentorado_id} já tem este e-mail. Una os dois perfis."
        return [{"field": "", "message": words}]
    return [{"field": "", "message": CONFLICTS[err.kind]}] if isinstance(err, ConflictError) else []


def _afterwards(matter: RequestedChange, told: FormData) -> str:
    """Where to look at the result: where it was asked for, or where everything has gone."""
    if not matter.offer.ends_it:
        return matter.page
    if "destino" in told:
        return url_for("console_mentees.show", mentorado_id=told["destino"])
    return url_for("console_mentees.index")
