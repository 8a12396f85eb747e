"""The changes that the support desk offers: what each needs to be told, does, and is about."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator
from sqlalchemy.orm import Session

from blueprints.bodies import Amount, Body, Email, Id, Name, WebAddress
from blueprints.month_bodies import as_written
from provisioning import attempts, editing, merging, repairs
from provisioning.audit import Entry
from provisioning.confirming import Look
from provisioning.facts import Facts, facts_about_person, facts_about_profile
from provisioning.moving import Journey, Prefer

Told = dict[str, Any]  # what the form said, checked
Do = Callable[[Session, int, Told, Entry, datetime], list[str]]
Written = Annotated[Amount, BeforeValidator(as_written)]
WrittenId = Annotated[Id, BeforeValidator(as_written)]
Blank = BeforeValidator(lambda value: value or None)

PERSON, PROFILE = "pessoa", "mentorado"
VIEWS: dict[str, tuple[str, Callable[[Session, int], Facts]]] = {
    PERSON: ("Pessoa nº {}", facts_about_person),
    PROFILE: ("Perfil nº {}", facts_about_profile),
}


class Nothing(Body):
    """Nothing needs to be told."""


class Whom(Body):
    """Whose the profile shall be."""

    pessoa: WrittenId


class Where(Body):
    """Into which profile, and whose row stays where there is room for one."""

    destino: WrittenId
    prefere: Literal["into", "from"] = "into"


class Content(Body):
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
class Offer:
    """One change to a subject; `other` is the field that names a second one, and its kind."""

    title: str
    done: str
    words: str
    do: Do
    asks: type[Body] = Nothing
    other: tuple[str, str] | None = None
    ends_it: bool = False  # the subject will not be there any longer

    def look(self, subject: str, subject_id: int, told: Told) -> Look:
        """How to look at everything that it is about, by its name for people."""
        about = [(subject, subject_id)]
        if self.other is not None:
            name, kind = self.other
            about.append((kind, told[name]))
        views = [(VIEWS[kind], number) for kind, number in about]
        return lambda s: {label.format(number): view(s, number) for (label, view), number in views}


def journey_of(mentorado_id: int, told: Told, entry: Entry) -> Journey:
    """What a merge is told."""
    return Journey(mentorado_id, told["destino"], Prefer(told["prefere"]), entry.request_id)


def _merge(session: Session, own: int, told: Told, entry: Entry, now: datetime) -> list[str]:
    journey = journey_of(own, told, entry)
    return list(merging.merge(session, journey, entry=entry, now=now).clerk_ids)


def _edit(session: Session, own: int, told: Told, entry: Entry, now: datetime) -> list[str]:
    return editing.edit(session, own, changes=told, entry=entry, now=now)


def _set_active(value: str) -> Do:
    return lambda s, own, _, entry, now: _edit(s, own, {"ativo": value}, entry, now)


OFFERS: dict[tuple[str, str], Offer] = {
    (PERSON, "bloquear"): Offer(
        "Bloquear acesso",
        "Acesso bloqueado.",
        "A pessoa fica fora a partir do próximo pedido, e as varreduras não criam perfil para ela.",
        lambda s, own, _, entry, now: repairs.block(s, own, entry=entry, now=now),
    ),
    (PERSON, "liberar"): Offer(
        "Liberar acesso",
        "Acesso liberado.",
        "A pessoa volta a entrar no próximo pedido; se não tiver perfil, ganha um pelas regras.",
        lambda s, own, _, entry, __: repairs.allow(s, own, entry=entry),
    ),
    (PERSON, "descartar"): Offer(
        "Descartar tentativas",
        "Tentativas descartadas.",
        "O registro das falhas é esquecido; a próxima varredura trata a pessoa como nova.",
        lambda s, own, _, entry, __: attempts.forget(s, own, entry=entry),
    ),
    (PROFILE, "vincular"): Offer(
        "Vincular perfil",
        "Perfil vinculado.",
        "O perfil passa a ser da pessoa; um perfil automático dela, sem uso, dá lugar a este.",
        lambda s, own, told, entry, now: repairs.link(s, own, told["pessoa"], entry=entry, now=now),
        asks=Whom,
        other=("pessoa", PERSON),
    ),
    (PROFILE, "desvincular"): Offer(
        "Desvincular perfil",
        "Perfil desvinculado.",
        "O perfil fica sem dono e espera por quem confirmar o e-mail dele.",
        lambda s, own, _, entry, now: repairs.unlink(s, own, entry=entry, now=now),
    ),
    (PROFILE, "desativar"): Offer(
        "Desativar perfil",
        "Perfil desativado.",
        "A pessoa vê que o perfil está inativo; os dados continuam guardados.",
        _set_active("nao"),
    ),
    (PROFILE, "reativar"): Offer(
        "Reativar perfil",
        "Perfil reativado.",
        "A pessoa volta ao painel no próximo pedido.",
        _set_active("sim"),
    ),
    (PROFILE, "corrigir"): Offer(
        "Corrigir perfil",
        "Perfil corrigido.",
        "Um e-mail corrigido vale pelas regras de sempre: quem o confirmou recebe o perfil.",
        _edit,
        asks=Content,
    ),
    (PROFILE, "unir"): Offer(
        "Unir a outro perfil",
        "Perfis unidos.",
        "Tudo deste perfil passa ao outro, e este deixa de existir; o que não couber é arquivado.",
        _merge,
        asks=Where,
        other=("destino", PROFILE),
        ends_it=True,
    ),
    (PROFILE, "excluir"): Offer(
        "Excluir perfil",
        "Perfil excluído.",
        "O perfil e tudo o que é dele são apagados, e o acesso do dono fica bloqueado.",
        lambda s, own, _, entry, now: repairs.remove(s, own, entry=entry, now=now),
        ends_it=True,
    ),
}
