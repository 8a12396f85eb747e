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
from provisioning.audit import Entry
from provisioning.merge_rows import Clash, Journey, Prefer
from provisioning.preregistration import MentoradoExistsError
from provisioning.preview import (
    Facts,
    Look,
    Preview,
    Proposal,
    confirm,
    facts_about_person,
    facts_about_profile,
    preview,
)
from web.access_policy import admin_required
from web.admin_change import admins_entry, apply_work, run_with_retry
from web.admin_labels import CONFLICTS, FIELDS, differences
from web.errors import Errors, InvalidInputError, NotFoundError
from web.month_input import BY_HAND, as_written
from web.request_context import tell
from web.services import house
from web.validation import ID, Amount, Because, Body, Email, Id, Name, WebAddress, checked

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
    return list(merge.merge(session, journey, entry=entry, now=now).clerk_ids)


def _edit(session: Session, own: int, told: Told, entry: Entry, now: datetime) -> list[str]:
    return admin_actions.edit(session, own, changes=told, entry=entry, now=now)


def _set_active(value: str) -> Do:
    return lambda s, own, _, entry, now: _edit(s, own, {"ativo": value}, entry, now)


OFFERS: dict[tuple[str, str], Offer] = {
    (PERSON, "bloquear"): Offer(
        "Bloquear acesso",
        "Acesso bloqueado.",
        "A pessoa fica fora a partir do próximo pedido, e as varreduras não criam perfil para ela.",
        lambda s, own, _, entry, now: admin_actions.block(s, own, entry=entry, now=now),
    ),
    (PERSON, "liberar"): Offer(
        "Liberar acesso",
        "Acesso liberado.",
        "A pessoa volta a entrar no próximo pedido; se não tiver perfil, ganha um pelas regras.",
        lambda s, own, _, entry, __: admin_actions.allow(s, own, entry=entry),
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
        lambda s, own, told, entry, now: admin_actions.link(
            s, own, told["pessoa"], entry=entry, now=now
        ),
        asks=Whom,
        other=("pessoa", PERSON),
    ),
    (PROFILE, "desvincular"): Offer(
        "Desvincular perfil",
        "Perfil desvinculado.",
        "O perfil fica sem dono e espera por quem confirmar o e-mail dele.",
        lambda s, own, _, entry, now: admin_actions.unlink(s, own, entry=entry, now=now),
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
        lambda s, own, _, entry, now: admin_actions.remove(s, own, entry=entry, now=now),
        ends_it=True,
    ),
}


desk_changes = Blueprint("desk_changes", __name__, url_prefix="/admin")

PATH = f"/<any({PERSON}, {PROFILE}):subject>/<{ID}:subject_id>/<key>"
MARK = "marca"  # the field that says what was shown
REFUSALS = (InvalidInputError, ConflictError, MentoradoExistsError)


@dataclass(frozen=True, slots=True)
class Matter:
    """An offer, and what it is about."""

    offer: Offer
    subject: str
    subject_id: int
    key: str

    def read(self, given: Mapping[str, str]) -> Told:
        """Check what was told; raises InvalidInputError."""
        fields = {name: given.get(name, "").strip() for name in self.offer.asks.model_fields}
        filled = {name: value for name, value in fields.items() if value or name in given}
        return checked(self.offer.asks, filled, BY_HAND).model_dump()

    @property
    def page(self) -> str:
        """The page of what it is about."""
        if self.subject == PERSON:
            return url_for("desk_people.show", user_id=self.subject_id)
        return url_for("desk_mentees.show", mentorado_id=self.subject_id)

    def proposal(self, told: Told) -> Proposal:
        """The change with its values, to be previewed or confirmed."""
        now, is_person = house().now(), self.subject == PERSON
        return Proposal(
            name=f"{self.subject}/{self.subject_id}/{self.key}",
            values=told,
            change=lambda s, entry: self.offer.do(s, self.subject_id, told, entry, now),
            look=self.offer.look(self.subject, self.subject_id, told),
            user_id=self.subject_id if is_person else None,
            mentorado_id=None if is_person else self.subject_id,
        )


@desk_changes.get(PATH)
@admin_required
def ask(subject: str, subject_id: int, key: str) -> ResponseReturnValue:
    """What the change needs to be told; where that is nothing, what it would come to."""
    matter = _matter(subject, subject_id, key)
    if matter.offer.asks is not Nothing and not request.args:
        return _form(matter, {})
    return _shown(matter, request.args)


@desk_changes.post(PATH)
@admin_required
def act(subject: str, subject_id: int, key: str) -> ResponseReturnValue:
    """Show what the change would come to; with the mark of what was shown, do it."""
    matter = _matter(subject, subject_id, key)
    return _done(matter) if MARK in request.form else _shown(matter, request.form)


def _matter(subject: str, subject_id: int, key: str) -> Matter:
    offer = OFFERS.get((subject, key))
    if offer is None:
        raise NotFoundError(f"there is no change {key}")
    return Matter(offer, subject, subject_id, key)


def _shown(matter: Matter, given: Mapping[str, str], note: str = "") -> ResponseReturnValue:
    try:
        told = matter.read(given)
        shown, clashes = _preview(matter, told)
    except REFUSALS as err:
        return _form(matter, given, _errors(err))
    page = render_template(
        "desk_confirm.html",
        matter=matter,
        given=told,
        note=note,
        mark=shown.digest,
        changes=differences(shown.before, shown.after),
        clashes=clashes,
    )
    return page, 409 if note else 200


def _preview(matter: Matter, told: Told) -> tuple[Preview, tuple[Clash, ...]]:
    entry, proposal, now = admins_entry(), matter.proposal(told), house().now()

    def work(session: Session) -> tuple[Preview, tuple[Clash, ...]]:
        shown = preview(session, proposal, entry=entry)
        if matter.key != "unir":
            return shown, ()
        journey = journey_of(matter.subject_id, told, entry)
        return shown, merge.preview(session, journey, entry=entry, now=now).clashes

    return run_with_retry(work)


def _done(matter: Matter) -> ResponseReturnValue:
    try:
        told = matter.read(request.form)
        reason = checked(Because, {"reason": request.form.get("reason", "")}).reason
        proposal, entry = matter.proposal(told), admins_entry(reason)
        digest = request.form[MARK]
        apply_work(matter.key, lambda s: confirm(s, proposal, digest=digest, entry=entry))
    except ConflictError as err:
        return _shown(matter, request.form, CONFLICTS[err.kind])
    except (InvalidInputError, MentoradoExistsError) as err:
        return _form(matter, request.form, _errors(err))
    tell(matter.offer.done)
    return redirect(_afterwards(matter, told), code=303)


def _form(matter: Matter, given: Mapping[str, str], errors: Errors = ()) -> ResponseReturnValue:
    """What the change asks for, filled in as far as it is known."""
    with transaction() as session:
        is_profile = matter.subject == PROFILE
        profile = session.get(Mentorado, matter.subject_id) if is_profile else None
    fields = matter.offer.asks.model_fields
    known = {name: getattr(profile, name, None) for name in fields}
    page = render_template(
        "desk_ask.html",
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


def _afterwards(matter: Matter, told: Told) -> str:
    """Where to look at the result: where it was asked for, or where everything has gone."""
    if not matter.offer.ends_it:
        return matter.page
    if "destino" in told:
        return url_for("desk_mentees.show", mentorado_id=told["destino"])
    return url_for("desk_mentees.index")
