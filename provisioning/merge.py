"""Making one profile of two: months, feedback and whatever else refers to them move over."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, literal_column, select
from sqlalchemy.orm import Session

from models import Mentorado, User
from provisioning.admin_actions import (
    Conflict,
    ConflictError,
    end_contexts_of_heirs,
    locked_profile,
    locked_user,
    record_action,
)
from provisioning.audit import Source
from provisioning.errors import StaleDecisionError
from provisioning.merge_rows import AT_ONCE, MergeConflict, MergeSpec, archive, move_rows
from provisioning.references import MENTORADOS, is_referenced, references_to_mentorados

GAPS = ("email", "foto_url")  # what the kept profile takes over where it has nothing itself


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What a merge has done, or would do: rows moved by table, and those that met a rival."""

    mentorado: Mentorado
    moved: dict[str, int]
    conflicts: tuple[MergeConflict, ...]
    clerk_ids: tuple[str, ...]


def merge(session: Session, journey: MergeSpec, *, source: Source, now: datetime) -> MergeResult:
    """Move everything from one profile into another and delete the empty one.

    The kept profile takes the other's owner if it has none, and its address and photo where it has
    none. Rows of which there can be one only are decided by `journey.prefer`; the other ones, and
    the profile that goes, stay in the archive. Raises UnknownMentoradoError, and ConflictError for
    two profiles with two owners or where something could be lost; then nothing is written.
    """
    leaving, target = _locked_pair(session, journey)
    owner_id = leaving.user_id or target.user_id
    gaps = {name: getattr(leaving, name) for name in GAPS if getattr(target, name) is None}
    moved, clashes = _move_everything(session, journey)
    _remove(session, leaving, journey)
    for name, value in gaps.items():
        setattr(target, name, value)
    target.user_id, target.edited_at, target.updated_at = owner_id, now, now
    session.flush()  # so that the owner's place is taken before anybody asks
    owner = session.get_one(User, owner_id) if owner_id else None
    record_action(
        session,
        source,
        "merge",
        user=owner,
        profile=target,
        merged_mentorado_id=journey.from_id,
        moved=moved,
        archived=len(clashes),
    )
    concerned = [owner.clerk_id] if owner else end_contexts_of_heirs(session, target)
    return MergeResult(target, moved, tuple(clashes), tuple(concerned))


def preview(session: Session, journey: MergeSpec, *, source: Source, now: datetime) -> MergeResult:
    """Do it all, look at it, and take it back: what is shown is what would happen."""
    with session.begin_nested() as savepoint:
        merged = merge(session, journey, source=source, now=now)
        session.expunge(merged.mentorado)
        savepoint.rollback()
    return merged


def _locked_pair(session: Session, journey: MergeSpec) -> tuple[Mentorado, Mentorado]:
    """Both profiles, held still with their owners: people first, each kind by its ids."""
    if journey.from_id == journey.into_id:
        raise ConflictError(Conflict.ITSELF)
    ids = sorted((journey.from_id, journey.into_id))
    owners = select(Mentorado.user_id).where(Mentorado.id.in_(ids), Mentorado.user_id.is_not(None))
    before = sorted(filter(None, session.scalars(owners)))
    for user_id in before:
        locked_user(session, user_id)
    profiles = {mentorado_id: locked_profile(session, mentorado_id) for mentorado_id in ids}
    if sorted(p.user_id for p in profiles.values() if p.user_id is not None) != before:
        raise StaleDecisionError("a profile of the merge has just changed its owner")
    if len(before) > 1:
        raise ConflictError(Conflict.TWO_OWNERS)
    return profiles[journey.from_id], profiles[journey.into_id]


def _move_everything(
    session: Session, journey: MergeSpec
) -> tuple[dict[str, int], list[MergeConflict]]:
    moved: dict[str, int] = {}
    clashes: list[MergeConflict] = []
    session.execute(AT_ONCE)
    for table in references_to_mentorados(session):
        count, met = move_rows(session, table, journey)
        if count:
            moved[table.table_name] = count
        clashes += met
    return moved, clashes


def _remove(session: Session, source: Mentorado, journey: MergeSpec) -> None:
    if is_referenced(session, source.id):
        raise ConflictError(Conflict.HELD)
    archive(session, MENTORADOS, _content(session, source), journey)
    session.delete(source)
    session.flush()  # its owner must be free before the other profile takes them


def _content(session: Session, profile: Mentorado) -> dict[str, Any]:
    row = func.to_jsonb(literal_column("mentorados"))
    found: dict[str, Any] = session.scalars(
        select(row).select_from(Mentorado).where(Mentorado.id == profile.id)
    ).one()
    return found
