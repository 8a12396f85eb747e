"""What admins may change: each type of change with its form, its texts and its function."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator
from sqlalchemy.orm import Session

from models import Mentorado, User
from provisioning import admin_actions, attempts, deleted_profiles
from provisioning.audit import Source
from provisioning.merge import MergeSpec, Prefer, merge
from provisioning.preview import ChangeResult, SubjectKind
from web.admin_labels import count_text
from web.month_input import Figure, parse_typed_number
from web.validation import Body, Email, Id, Name, WebAddress

USER, PROFILE = SubjectKind.USER, SubjectKind.PROFILE
TypedId = Annotated[Id, BeforeValidator(parse_typed_number)]
BlankAsNone = BeforeValidator(lambda value: value or None)


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
    meta_faturamento: Figure
    meta_leads: Figure
    meta_procedimentos: Figure
    meta_posts: Figure
    meta_stories: Figure


@dataclass(frozen=True, slots=True)
class ChangeInput:
    """What a change gets: the id of the user or profile, the validated form, who and when."""

    id: int
    fields: Mapping[str, Any]
    source: Source
    now: datetime


@dataclass(frozen=True, slots=True)
class ChangeType:
    """One change to a subject; `other_subject` is the form field of a second one, and its kind.

    `action` is its name in the audit log and in the log. `is_destructive`: people lose access or
    data; `is_deletion`: the admin has to type the subject's name.
    """

    action: str
    title: str
    success_message: str
    explanation: str
    apply: Callable[[Session, ChangeInput], ChangeResult]
    form: type[Body] = Body  # without fields
    other_subject: tuple[str, SubjectKind] | None = None
    is_destructive: bool = False
    is_deletion: bool = False


def _edit(session: Session, given: ChangeInput, changes: Mapping[str, Any]) -> ChangeResult:
    return ChangeResult(
        admin_actions.edit(session, given.id, changes=changes, source=given.source, now=given.now)
    )


def _merge(session: Session, given: ChangeInput) -> ChangeResult:
    into, prefer, source = given.fields["destino"], given.fields["prefere"], given.source
    spec = MergeSpec(given.id, into, Prefer(prefer), source.request_id)
    merged = merge(session, spec, source=source, now=given.now)
    return ChangeResult(merged.clerk_ids, merged.conflicts)


CHANGE_TYPES: dict[tuple[SubjectKind, str], ChangeType] = {
    (USER, "bloquear"): ChangeType(
        "block",
        "Bloquear acesso",
        "Acesso bloqueado.",
        "A pessoa perde o acesso na hora. O perfil e os dados ficam guardados.",
        lambda s, c: ChangeResult(admin_actions.block(s, c.id, source=c.source, now=c.now)),
        is_destructive=True,
    ),
    (USER, "liberar"): ChangeType(
        "allow",
        "Liberar acesso",
        "Acesso liberado.",
        "A pessoa volta a entrar no próximo pedido; se não tiver perfil, ganha um pelas regras.",
        lambda s, c: ChangeResult(admin_actions.allow(s, c.id, source=c.source)),
    ),
    (USER, "descartar"): ChangeType(
        "discard",
        "Descartar tentativas",
        "Tentativas descartadas.",
        "O registro das falhas é esquecido; a próxima varredura trata a pessoa como nova.",
        lambda s, c: ChangeResult(attempts.delete_attempt(s, c.id, source=c.source)),
    ),
    (PROFILE, "vincular"): ChangeType(
        "link",
        "Vincular perfil",
        "Perfil vinculado.",
        "O perfil passa a ser da pessoa; um perfil automático dela, sem uso, dá lugar a este.",
        lambda s, c: ChangeResult(
            admin_actions.link(s, c.id, c.fields["pessoa"], source=c.source, now=c.now)
        ),
        form=TargetUser,
        other_subject=("pessoa", USER),
    ),
    (PROFILE, "desvincular"): ChangeType(
        "unlink",
        "Desvincular perfil",
        "Perfil desvinculado.",
        "A pessoa deixa de ver este perfil. Ele fica guardado e espera por quem confirmar o e-mail "
        "dele.",
        lambda s, c: ChangeResult(admin_actions.unlink(s, c.id, source=c.source, now=c.now)),
        is_destructive=True,
    ),
    (PROFILE, "desativar"): ChangeType(
        "edit",
        "Desativar perfil",
        "Perfil desativado.",
        "A pessoa vê que o perfil está inativo; os dados continuam guardados.",
        lambda s, c: _edit(s, c, {"ativo": "nao"}),
        is_destructive=True,
    ),
    (PROFILE, "reativar"): ChangeType(
        "edit",
        "Reativar perfil",
        "Perfil reativado.",
        "A pessoa volta ao painel no próximo pedido.",
        lambda s, c: _edit(s, c, {"ativo": "sim"}),
    ),
    (PROFILE, "corrigir"): ChangeType(
        "edit",
        "Corrigir perfil",
        "Perfil corrigido.",
        "Quem tiver o novo e-mail confirmado recebe este perfil no próximo acesso.",
        lambda s, c: _edit(s, c, c.fields),
        form=ProfileFields,
    ),
    (PROFILE, "unir"): ChangeType(
        "merge",
        "Unir a outro perfil",
        "Perfis unidos.",
        "Tudo deste perfil passa ao outro, e este deixa de existir; o que não couber é arquivado.",
        _merge,
        form=MergeTarget,
        other_subject=("destino", PROFILE),
    ),
    (PROFILE, "excluir"): ChangeType(
        "delete",
        "Excluir perfil",
        "Perfil excluído. Dá para restaurar por 30 dias.",
        "O perfil e tudo o que é dele são apagados, e a pessoa perde o acesso. Dá para restaurar "
        "por 30 dias.",
        lambda s, c: ChangeResult(deleted_profiles.remove(s, c.id, source=c.source, now=c.now)),
        is_destructive=True,
        is_deletion=True,
    ),
}


@dataclass(frozen=True, slots=True)
class DestructiveChange:
    """A dangerous change by its key in `CHANGE_TYPES`, with its button and consequence."""

    subject: SubjectKind
    subject_id: int
    key: str
    button: str
    consequence: str


def destructive_changes_of_profile(
    profile: Mentorado, owner: User | None, counts: Mapping[str, int]
) -> list[DestructiveChange]:
    """Return what may be done to a profile; `counts` are the rows that refer to it, by table."""
    rows, who = count_text(counts), owner and (owner.name or "A pessoa")
    dangers = []
    if profile.is_active:
        loss = f"{who} perde o acesso" if who else "Ninguém entra com ele"
        text = f"{loss}, e o perfil fica inativo. Ficam guardados: {rows}."
        dangers.append(DestructiveChange(PROFILE, profile.id, "desativar", "Desativar", text))
    if who:
        dangers.append(_unlink(profile, f"{who} deixa de ver este perfil", rows))
    loss = f" {who} perde o acesso." if who else ""
    text = f"São apagados: {rows}.{loss} Dá para restaurar por 30 dias."
    return [*dangers, DestructiveChange(PROFILE, profile.id, "excluir", "Excluir", text)]


def destructive_changes_of_user(
    user: User, profile: Mentorado | None, counts: Mapping[str, int]
) -> list[DestructiveChange]:
    """Return what may be done to a user; nothing to a blocked user without a profile."""
    rows, dangers = count_text(counts), []
    if user.blocked_at is None:
        kept = f"O perfil fica guardado: {rows}." if profile else "Nenhum perfil é criado para ela."
        text = f"A pessoa perde o acesso na hora. {kept}"
        dangers.append(DestructiveChange(USER, user.id, "bloquear", "Bloquear acesso", text))
    if profile is not None:
        loss = f"A pessoa deixa de ver o perfil {profile.nome_completo}"
        dangers.append(_unlink(profile, loss, rows))
    return dangers


def _unlink(profile: Mentorado, loss: str, rows: str) -> DestructiveChange:
    text = f"{loss} ({rows}). Ele fica guardado, à espera de quem confirmar o e-mail dele."
    return DestructiveChange(PROFILE, profile.id, "desvincular", "Desvincular", text)
