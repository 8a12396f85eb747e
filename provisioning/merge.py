"""Merge two profiles into one: months, feedback and all other rows that refer to them move."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, literal_column, select
from sqlalchemy.orm import Session

from core.database import rolled_back
from models import Mentorado, User
from provisioning.admin_actions import (
    Conflict,
    ConflictError,
    invalidate_claimants,
    load_profile_for_update,
    load_user_for_update,
    record_action,
)
from provisioning.audit import Source
from provisioning.errors import StaleDecisionError
from provisioning.merge_rows import CHECK_AT_EACH_ROW, MergeConflict, MergeSpec, archive, move_rows
from provisioning.references import MENTORADOS, is_referenced, references_to_mentorados

FILLED_COLUMNS = ("email", "foto_url")  # copied to the kept profile where it has no value


@dataclass(frozen=True, slots=True)
class MergeResult:
    """The kept profile, the moved rows by table, the conflicts, and the affected Clerk ids."""

    mentorado: Mentorado
    moved: dict[str, int]
    conflicts: tuple[MergeConflict, ...]
    clerk_ids: tuple[str, ...]


def merge(session: Session, spec: MergeSpec, *, source: Source, now: datetime) -> MergeResult:
    """Move all rows from one profile to another and delete the first.

    The kept profile gets the other's owner, address and photo where it has none. Of two rows that a
    unique index excludes, `spec.prefer` chooses; the other row and the deleted profile go to the
    archive. Raises UnknownMentoradoError, and ConflictError for two profiles with two owners or
    where data could be lost; then nothing is written.
    """
    removed, kept = _lock_both(session, spec)
    owner_id = removed.user_id or kept.user_id
    columns = [name for name in FILLED_COLUMNS if getattr(kept, name) is None]
    filled = {name: getattr(removed, name) for name in columns}
    moved, conflicts = _move_all_rows(session, spec)
    _archive_and_delete(session, removed, spec)
    for name, value in filled.items():
        setattr(kept, name, value)
    kept.user_id, kept.edited_at, kept.updated_at = owner_id, now, now
    session.flush()  # writes the new owner before the statements below
    owner = session.get_one(User, owner_id) if owner_id else None
    record_action(
        session,
        source,
        "merge",
        user=owner,
        profile=kept,
        merged_mentorado_id=spec.from_id,
        moved=moved,
        archived=len(conflicts),
    )
    clerk_ids = [owner.clerk_id] if owner else invalidate_claimants(session, kept)
    return MergeResult(kept, moved, tuple(conflicts), tuple(clerk_ids))


def preview(session: Session, spec: MergeSpec, *, source: Source, now: datetime) -> MergeResult:
    """Merge in a savepoint, roll it back, and return the result."""
    with rolled_back(session):
        result = merge(session, spec, source=source, now=now)
        session.expunge(result.mentorado)  # the rollback would expire its values
    return result


def _lock_both(session: Session, spec: MergeSpec) -> tuple[Mentorado, Mentorado]:
    """Lock the owners by id, then the profiles by id; return the removed and the kept profile."""
    if spec.from_id == spec.into_id:
        raise ConflictError(Conflict.SAME_PROFILE)
    ids = sorted((spec.from_id, spec.into_id))
    owners = select(Mentorado.user_id).where(Mentorado.id.in_(ids), Mentorado.user_id.is_not(None))
    owner_ids = sorted(filter(None, session.scalars(owners)))
    for user_id in owner_ids:
        load_user_for_update(session, user_id)
    profiles = {
        mentorado_id: load_profile_for_update(session, mentorado_id) for mentorado_id in ids
    }
    if sorted(p.user_id for p in profiles.values() if p.user_id is not None) != owner_ids:
        raise StaleDecisionError("a profile of the merge has just changed its owner")
    if len(owner_ids) > 1:
        raise ConflictError(Conflict.TWO_OWNERS)
    return profiles[spec.from_id], profiles[spec.into_id]


def _move_all_rows(session: Session, spec: MergeSpec) -> tuple[dict[str, int], list[MergeConflict]]:
    moved: dict[str, int] = {}
    conflicts: list[MergeConflict] = []
    session.execute(CHECK_AT_EACH_ROW)
    for table in references_to_mentorados(session):
        count, table_conflicts = move_rows(session, table, spec)
        if count:
            moved[table.table_name] = count
        conflicts += table_conflicts
    return moved, conflicts


def _archive_and_delete(session: Session, profile: Mentorado, spec: MergeSpec) -> None:
    if is_referenced(session, profile.id):
        raise ConflictError(Conflict.STILL_REFERENCED)
    row = func.to_jsonb(literal_column("mentorados"))
    content: dict[str, Any] = session.scalars(
        select(row).select_from(Mentorado).where(Mentorado.id == profile.id)
    ).one()
    archive(session, MENTORADOS, content, spec)
    session.delete(profile)
    session.flush()  # `user_id` is unique: it must be free before the kept profile gets it
