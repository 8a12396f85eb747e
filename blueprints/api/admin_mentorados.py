"""Profiles in the hands of admins: registered before their person comes, linked, taken away."""

from itertools import count
from typing import Any, Literal

from flask import Blueprint, g
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from core.database import transaction
from models import Mentorado
from provisioning import admin_actions
from provisioning import merge as merging
from provisioning.context import MentoradoShape, serialize_mentorado
from provisioning.merge_rows import MergeConflict, MergeSpec, Prefer
from provisioning.preregistration import Registered, pre_register, registered_by
from provisioning.queries import list_mentees
from web.access_policy import admin_required
from web.admin_change import admin_source, apply_admin_change, publish_change, run_with_retry
from web.api import Done, api_operation
from web.errors import InvalidInputError
from web.services import services
from web.validation import (
    ID,
    LEFT_OUT_STAYS,
    MESSAGES,
    Amount,
    Body,
    Email,
    Id,
    Listed,
    Name,
    Search,
    WebAddress,
    WithReason,
    listed,
)


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


class Correction(WithReason):
    """What is to be written into a profile; what is left out stays."""

    model_config = LEFT_OUT_STAYS

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


class LinkRequest(WithReason):
    """Whose the profile shall be."""

    user_id: Id


class MergeRequest(WithReason):
    """Into which profile; a dry run only shows what would happen."""

    into: Id
    dry_run: bool = False
    prefer: Literal["into", "from"] = "into"


admin_mentorados = Blueprint("admin_mentorados", __name__, url_prefix="/api/admin/mentorados")


class Owned(TypedDict):
    """Whose a profile is now."""

    id: int
    user_id: int | None
    request_id: str


class MergeShape(TypedDict):
    """What a merge has done, or would do: rows moved by table, and those that met a rival."""

    id: int
    into: int
    dry_run: bool
    moved: dict[str, int]
    conflicts: list[MergeConflict]
    mentorado: MentoradoShape
    request_id: str


@admin_mentorados.get("")
@admin_required
@api_operation()
def list_all(asked: Search) -> Listed[MentoradoShape]:
    """Profiles in key order, or those whose name or address has `q` in it."""
    with transaction() as session:
        found = list_mentees(session, wanted=asked.q, after_id=asked.cursor, limit=asked.limit)
    return listed(found, serialize_mentorado, limit=asked.limit)


@admin_mentorados.post("")
@admin_required
@api_operation("conflict", "mentorado_exists")
def register(wanted: Registration) -> tuple[MentoradoShape, Literal[200, 201]]:
    """Pre-register a mentee; 200 where their untouched automatic profile took the data over."""
    values: dict[str, Any] = wanted.model_dump(exclude_unset=True)
    entry, now, tries = admin_source(), services().now(), count()

    def work(session: Session) -> Registered:
        # The commit of an earlier try may have arrived although its answer was lost.
        own = registered_by(session, entry) if next(tries) else None
        return own or pre_register(session, values, source=entry, now=now)

    registered = run_with_retry(work)
    publish_change("pre_register", [registered.clerk_id] if registered.clerk_id else [])
    return serialize_mentorado(registered.mentorado), 201 if registered.is_new else 200


@admin_mentorados.patch(f"/<{ID}:mentorado_id>")
@admin_required
@api_operation("conflict", "mentorado_exists")
def correct(mentorado_id: int, wanted: Correction) -> MentoradoShape:
    """Write into a profile; its person sees it at their next request."""
    changes = wanted.changes()
    if not changes:
        raise InvalidInputError([{"field": "", "message": MESSAGES["nothing"]}])
    apply_admin_change(
        admin_actions.edit,
        mentorado_id,
        changes=changes,
        now=services().now(),
        reason=wanted.reason,
    )
    with transaction() as session:
        found = session.get(Mentorado, mentorado_id)
    if found is None:
        raise admin_actions.UnknownMentoradoError(f"mentorado {mentorado_id} has just gone")
    return serialize_mentorado(found)


@admin_mentorados.delete(f"/<{ID}:mentorado_id>")
@admin_required
@api_operation("conflict")
def remove(mentorado_id: int, why: WithReason) -> Done:
    """Delete a profile; its person is blocked until `allow`."""
    apply_admin_change(admin_actions.remove, mentorado_id, now=services().now(), reason=why.reason)
    return "", 204


@admin_mentorados.post(f"/<{ID}:mentorado_id>/link")
@admin_required
@api_operation("conflict")
def link(mentorado_id: int, wanted: LinkRequest) -> Owned:
    """Give the profile to a person."""
    apply_admin_change(
        admin_actions.link, mentorado_id, wanted.user_id, now=services().now(), reason=wanted.reason
    )
    return {"id": mentorado_id, "user_id": wanted.user_id, "request_id": g.request_id}


@admin_mentorados.post(f"/<{ID}:mentorado_id>/unlink")
@admin_required
@api_operation("conflict")
def unlink(mentorado_id: int, why: WithReason) -> Owned:
    """Take the profile out of its owner's hands."""
    apply_admin_change(admin_actions.unlink, mentorado_id, now=services().now(), reason=why.reason)
    return {"id": mentorado_id, "user_id": None, "request_id": g.request_id}


@admin_mentorados.post(f"/<{ID}:mentorado_id>/merge")
@admin_required
@api_operation("conflict")
def merge(mentorado_id: int, wanted: MergeRequest) -> MergeShape:
    """Move everything of the profile into another one; a dry run shows it and takes it back."""
    journey = MergeSpec(mentorado_id, wanted.into, Prefer(wanted.prefer), g.request_id)
    work = merging.preview if wanted.dry_run else merging.merge
    source, now = admin_source(wanted.reason), services().now()
    merged = run_with_retry(lambda session: work(session, journey, source=source, now=now))
    if not wanted.dry_run:
        publish_change("merge", merged.clerk_ids)
    return {
        "id": mentorado_id,
        "into": wanted.into,
        "dry_run": wanted.dry_run,
        "moved": merged.moved,
        "conflicts": list(merged.conflicts),
        "mentorado": serialize_mentorado(merged.mentorado),
        "request_id": g.request_id,
    }
