"""Profiles in the hands of admins: registered before their person comes, linked, taken away."""

from dataclasses import asdict
from typing import Any, Literal

from flask import Blueprint, g, jsonify
from flask.typing import ResponseReturnValue

from blueprints.acting import admins_entry, apply, make_known
from blueprints.bodies import (
    MESSAGES,
    Amount,
    Because,
    Body,
    Email,
    Id,
    Name,
    WebAddress,
    read_body,
)
from blueprints.errors import InvalidInputError
from blueprints.lists import ID, asked_page, asked_text
from blueprints.stance import admin_required
from extensions import transaction
from house import house
from models import Mentorado
from provisioning import editing, merging, repairs
from provisioning.mentees import mentees
from provisioning.moving import Journey, Prefer
from provisioning.registration import pre_register
from session_context import mentorado_shape

admin_mentorados = Blueprint("admin_mentorados", __name__, url_prefix="/api/admin/mentorados")


class Registration(Body):
    """A profile as the team writes it; what is left out takes the table's default."""

    nome_completo: Name
    email: Email | None = None
    foto_url: WebAddress | None = None
    turma: Literal["neon"] = "neon"
    meta_faturamento: Amount = 16_000
    meta_leads: Amount = 50
    meta_procedimentos: Amount = 10
    meta_posts: Amount = 12
    meta_stories: Amount = 60


class Correction(Because):
    """What is to be written into a profile; what is left out stays."""

    nome_completo: Name = ""
    email: Email | None = None
    foto_url: WebAddress | None = None
    turma: Literal["neon"] = "neon"
    ativo: Literal["sim", "nao"] = "sim"
    meta_faturamento: Amount = 0
    meta_leads: Amount = 0
    meta_procedimentos: Amount = 0
    meta_posts: Amount = 0
    meta_stories: Amount = 0

    def changes(self) -> dict[str, Any]:
        """The columns that were given, with their new values."""
        return self.model_dump(exclude_unset=True, exclude={"reason"})


class LinkRequest(Because):
    """Whose the profile shall be."""

    user_id: Id


class MergeRequest(Because):
    """Into which profile; a dry run only shows what would happen."""

    into: Id
    dry_run: bool = False
    prefer: Literal["into", "from"] = "into"


@admin_mentorados.get("")
@admin_required
def list_all() -> ResponseReturnValue:
    """Profiles in key order, or those whose name or address has `q` in it."""
    page = asked_page()
    with transaction() as session:
        found = mentees(session, wanted=asked_text("q"), after_id=page.after_id, limit=page.limit)
    return jsonify(page.answer(found, lambda profile: dict(mentorado_shape(profile))))


@admin_mentorados.post("")
@admin_required
def register() -> ResponseReturnValue:
    """Pre-register a mentee; 200 where their untouched automatic profile took the data over."""
    wanted = read_body(Registration)
    values: dict[str, Any] = wanted.model_dump(exclude_unset=True)
    with transaction() as session:
        registered = pre_register(session, values, entry=admins_entry(), now=house().now())
    make_known("pre_register", [registered.clerk_id] if registered.clerk_id else [])
    return mentorado_shape(registered.mentorado), 201 if registered.is_new else 200


@admin_mentorados.patch(f"/<{ID}:mentorado_id>")
@admin_required
def correct(mentorado_id: int) -> ResponseReturnValue:
    """Write into a profile; its person sees it at their next request."""
    wanted = read_body(Correction)
    changes = wanted.changes()
    if not changes:
        raise InvalidInputError([{"field": "", "message": MESSAGES["nothing"]}])
    apply(editing.edit, mentorado_id, changes=changes, now=house().now(), reason=wanted.reason)
    with transaction() as session:
        found = session.get(Mentorado, mentorado_id)
    if found is None:
        raise repairs.UnknownMentoradoError(f"mentorado {mentorado_id} has just gone")
    return jsonify(mentorado_shape(found))


@admin_mentorados.delete(f"/<{ID}:mentorado_id>")
@admin_required
def remove(mentorado_id: int) -> ResponseReturnValue:
    """Delete a profile; its person is blocked until `allow`."""
    reason = read_body(Because).reason
    apply(repairs.remove, mentorado_id, now=house().now(), reason=reason)
    return "", 204


@admin_mentorados.post(f"/<{ID}:mentorado_id>/link")
@admin_required
def link(mentorado_id: int) -> ResponseReturnValue:
    """Give the profile to a person."""
    wanted = read_body(LinkRequest)
    apply(repairs.link, mentorado_id, wanted.user_id, now=house().now(), reason=wanted.reason)
    return {"id": mentorado_id, "user_id": wanted.user_id, "request_id": g.request_id}


@admin_mentorados.post(f"/<{ID}:mentorado_id>/unlink")
@admin_required
def unlink(mentorado_id: int) -> ResponseReturnValue:
    """Take the profile out of its owner's hands."""
    apply(repairs.unlink, mentorado_id, now=house().now(), reason=read_body(Because).reason)
    return {"id": mentorado_id, "user_id": None, "request_id": g.request_id}


@admin_mentorados.post(f"/<{ID}:mentorado_id>/merge")
@admin_required
def merge(mentorado_id: int) -> ResponseReturnValue:
    """Move everything of the profile into another one; a dry run shows it and takes it back."""
    wanted = read_body(MergeRequest)
    journey = Journey(mentorado_id, wanted.into, Prefer(wanted.prefer), g.request_id)
    work = merging.preview if wanted.dry_run else merging.merge
    with transaction() as session:
        merged = work(session, journey, entry=admins_entry(wanted.reason), now=house().now())
    if not wanted.dry_run:
        make_known("merge", merged.clerk_ids)
    return jsonify(
        {
            "id": mentorado_id,
            "into": wanted.into,
            "dry_run": wanted.dry_run,
            "moved": merged.moved,
            "conflicts": [asdict(clash) for clash in merged.clashes],
            "mentorado": mentorado_shape(merged.mentorado),
            "request_id": g.request_id,
        }
    )
