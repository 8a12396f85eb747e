"""Profiles for admins: pre-register, correct, link, unlink, merge and delete."""

from collections.abc import Sequence
from itertools import count
from operator import attrgetter
from typing import Annotated, Any, Literal

from flask import Blueprint, g
from pydantic import Field
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from blueprints.api.mentorados import load_profile
from core.database import transaction
from core.types import one_of
from provisioning import admin_actions, deleted_profiles
from provisioning import merge as profile_merge
from provisioning.context import MentoradoShape, serialize_mentorado
from provisioning.merge import MergeConflict, MergeSpec, Prefer
from provisioning.preregistration import (
    RegistrationOutcome,
    Verdict,
    find_registered_by_request,
    pre_register,
)
from provisioning.user_lists import MenteeKind, list_mentees
from web.access_policy import admin_required
from web.admin_change import admin_source, apply_admin_change, run_admin_transaction, run_with_retry
from web.admin_labels import FACTS
from web.api import Listed, NoContent, api_operation, list_page
from web.csv_export import CsvFile, Row, csv_response
from web.csv_import import GOALS
from web.services import services
from web.validation import (
    ID_CONVERTER,
    Amount,
    Body,
    Email,
    Id,
    Name,
    PartialUpdate,
    Query,
    Search,
    Text,
    WebAddress,
    WithReason,
    search_term,
)


class Registration(Body):
    """The fields of a new profile; omitted ones get the table's defaults."""

    nome_completo: Name
    email: Email | None = None
    foto_url: WebAddress | None = None
    turma: Literal["neon"] = "neon"
    meta_faturamento: Amount = 16_000
    meta_leads: Amount = 50
    meta_procedimentos: Amount = 10
    meta_posts: Amount = 12
    meta_stories: Amount = 60


class Correction(PartialUpdate, WithReason, Registration):
    """The fields to change; omitted ones keep their values."""

    nome_completo: Name = ""
    ativo: Literal["sim", "nao"] = "sim"


class LinkRequest(WithReason):
    """The new owner of the profile."""

    user_id: Id


class MergeRequest(WithReason):
    """The profile to merge into; a dry run only shows the result."""

    into: Id
    dry_run: bool = False
    prefer: Literal["into", "from"] = "into"


class Download(Query):
    """The profiles of a file: of one kind, or whose name or address contains a text."""

    q: Annotated[Text, Field(description="A part of the name or address")] = None
    tipo: Annotated[MenteeKind | None, one_of(MenteeKind)] = None


admin_mentorados = Blueprint("admin_mentorados", __name__, url_prefix="/api/admin/mentorados")
admin_mentorado_files = Blueprint("admin_mentorado_files", __name__, url_prefix="/api/admin")

# The first titles are those of an import.
CSV_COLUMNS = {
    "Nome completo": "nome_completo",
    "E-mail": "email",
    **{FACTS[goal]: goal for goal in GOALS},
    "Número": "id",
    "Pessoa": "user_id",
    "Turma": "turma",
    "Ativo": "is_active",
    "Criado em": "created_at",
}
csv_row = attrgetter(*CSV_COLUMNS.values())


class Owned(TypedDict):
    """The owner of a profile after the change."""

    id: int
    user_id: int | None
    request_id: str


class MergeShape(TypedDict):
    """The result of a merge or of its dry run: moved rows by table, and rows in conflict."""

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
def list_all(query: Search) -> Listed[MentoradoShape]:
    """Profiles by id, or those whose name or address has the words of `q`."""
    with transaction() as session:
        mentees = list_mentees(
            session, search=search_term(query.q), after_id=query.cursor, limit=query.limit
        )
    return list_page(mentees, serialize_mentorado, limit=query.limit)


@admin_mentorado_files.get("/mentorados.csv")
@admin_required
@api_operation()
def download(query: Download) -> CsvFile:
    """All profiles as CSV, or those that `q` finds as in the list; can be imported again."""
    search = search_term(query.q)

    def read_batch(
        session: Session, after_id: int | None, limit: int
    ) -> tuple[Sequence[Row], int | None]:
        profiles = list_mentees(
            session, kind=query.tipo, search=search, after_id=after_id or 0, limit=limit
        )
        rows = [csv_row(profile) for profile in profiles]
        return rows, profiles[-1].id if len(profiles) == limit else None

    return csv_response("mentorados.csv", list(CSV_COLUMNS), read_batch)


@admin_mentorados.post("")
@admin_required
@api_operation("conflict", "mentorado_exists")
def register(body: Registration) -> tuple[MentoradoShape, Literal[200, 201]]:
    """Pre-register a mentee; 200 if their untouched automatic profile got the data."""
    values: dict[str, Any] = body.model_dump(exclude_unset=True)
    source, now, tries = admin_source(), services().now(), count()

    def work(session: Session) -> RegistrationOutcome:
        # The commit of an earlier try may have succeeded although its answer was lost.
        registered = find_registered_by_request(session, source) if next(tries) else None
        return registered or pre_register(session, values, source=source, now=now)

    registered = run_admin_transaction("pre_register", work)
    is_new = registered.verdict is Verdict.NEW
    return load_profile(registered.mentorado_id), 201 if is_new else 200


@admin_mentorados.patch(f"/<{ID_CONVERTER}:mentorado_id>")
@admin_required
@api_operation("conflict", "mentorado_exists")
def correct(mentorado_id: int, body: Correction) -> MentoradoShape:
    """Change a profile; its user sees the change at their next request."""
    changes, now = body.changes(), services().now()
    apply_admin_change(
        "edit", admin_actions.edit, mentorado_id, changes=changes, now=now, reason=body.reason
    )
    return load_profile(mentorado_id)


@admin_mentorados.delete(f"/<{ID_CONVERTER}:mentorado_id>")
@admin_required
@api_operation("conflict")
def remove(mentorado_id: int, body: WithReason) -> NoContent:
    """Delete a profile; its user is blocked until `allow`."""
    apply_admin_change(
        "delete", deleted_profiles.remove, mentorado_id, now=services().now(), reason=body.reason
    )
    return "", 204


@admin_mentorados.post(f"/<{ID_CONVERTER}:mentorado_id>/link")
@admin_required
@api_operation("conflict")
def link(mentorado_id: int, body: LinkRequest) -> Owned:
    """Link the profile to a user."""
    ids, now = (mentorado_id, body.user_id), services().now()
    apply_admin_change("link", admin_actions.link, *ids, now=now, reason=body.reason)
    return {"id": mentorado_id, "user_id": body.user_id, "request_id": g.request_id}


@admin_mentorados.post(f"/<{ID_CONVERTER}:mentorado_id>/unlink")
@admin_required
@api_operation("conflict")
def unlink(mentorado_id: int, body: WithReason) -> Owned:
    """Unlink the profile from its user."""
    apply_admin_change(
        "unlink", admin_actions.unlink, mentorado_id, now=services().now(), reason=body.reason
    )
    return {"id": mentorado_id, "user_id": None, "request_id": g.request_id}


@admin_mentorados.post(f"/<{ID_CONVERTER}:mentorado_id>/merge")
@admin_required
@api_operation("conflict")
def merge(mentorado_id: int, body: MergeRequest) -> MergeShape:
    """Merge the profile into another one; a dry run shows the result and rolls it back."""
    spec = MergeSpec(mentorado_id, body.into, Prefer(body.prefer), g.request_id)
    source, now = admin_source(body.reason), services().now()
    if body.dry_run:
        merged = run_with_retry(
            lambda session: profile_merge.preview(session, spec, source=source, now=now)
        )
        kept = serialize_mentorado(merged.mentorado)
    else:
        merged = run_admin_transaction(
            "merge", lambda session: profile_merge.merge(session, spec, source=source, now=now)
        )
        kept = load_profile(body.into)
    return {
        "id": mentorado_id,
        "into": body.into,
        "dry_run": body.dry_run,
        "moved": merged.moved,
        "conflicts": list(merged.conflicts),
        "mentorado": kept,
        "request_id": g.request_id,
    }
