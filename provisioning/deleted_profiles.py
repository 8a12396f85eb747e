"""Delete a profile with everything that belongs to it, and restore it within thirty days.

1. `remove` copies the profile and all rows that the database deletes with it, of any table, to
   the archive; then it deletes the profile and blocks its owner.
2. `restore` writes these rows again, parents first, with the ids that they had.
3. `archive.delete_old` deletes the copies after thirty days.

Rows whose reference the database only sets to NULL stay, and are not restored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, FromClause, delete, func, insert, literal, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from models import ArchivedRow, AuditEvent, Mentorado, User
from provisioning import archive
from provisioning.address_holders import find_holders, normalize_addresses
from provisioning.admin_actions import (
    block,
    invalidate_claimants,
    load_profile_for_update,
    lock_profile_with_users,
    lock_users,
    record_action,
    release_profile,
)
from provisioning.archive import PROFILE_DELETED
from provisioning.audit import Source
from provisioning.errors import Conflict, ConflictError, UnknownMentoradoError
from provisioning.profiles import is_untouched, lock_addresses
from provisioning.references import (
    MENTORADOS,
    REFUSING_ERRORS,
    ReferringTable,
    StoredRow,
    columns_of,
    escaped,
    references_to,
    select_rows,
)


@dataclass(frozen=True, slots=True)
class DeletedProfile:
    """A profile that can be restored, with its rows by table, and who deleted it when and why."""

    mentorado_id: int
    name: str
    email: str | None
    deleted_at: datetime
    rows: dict[str, int]
    actor_name: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class RestoredProfile:
    """A restored profile, and the Clerk ids of users whose next request must see it.

    `has_lost_owner` and `has_lost_address`: another profile has the owner, or the address, by now.
    """

    mentorado: Mentorado
    clerk_ids: list[str]
    has_lost_owner: bool
    has_lost_address: bool


def remove(session: Session, mentorado_id: int, *, source: Source, now: datetime) -> list[str]:
    """Delete a profile with its rows and block its owner, whose next request would recreate it.

    Raises ConflictError where a row of another program's table refers to it and prevents that, and
    for an admin's own profile.
    """
    profile, users = lock_profile_with_users(session, mentorado_id)
    owner = users[profile.user_id] if profile.user_id is not None else None
    if owner is not None and owner.id == source.actor_id:
        raise ConflictError(Conflict.OWN_ACCOUNT)
    record_action(session, source, "delete", user=owner, profile=profile, email=profile.email)
    _archive(session, profile, source, now)
    try:
        session.delete(profile)
        session.flush()  # raises here where a row refers to it
    except IntegrityError as err:
        raise ConflictError(Conflict.STILL_REFERENCED) from err
    return [] if owner is None else block(session, owner.id, source=source, now=now)


def restore(
    session: Session, mentorado_id: int, *, source: Source, now: datetime
) -> RestoredProfile:
    """Restore a deleted profile with all its rows, and unblock its owner.

    An untouched automatic profile that the owner has got meanwhile is deleted. If another profile
    has the owner or the address, the restored one has none, and can be merged. Without its owner it
    keeps no address that only the owner has given, see `release_profile`. Raises
    UnknownMentoradoError where there is nothing to restore, and ConflictError where the database
    refuses a row.
    """
    archived = _archived_rows(session, mentorado_id, now)
    if not archived:
        raise UnknownMentoradoError(f"there is no deleted mentorado {mentorado_id}")
    content = archived[0].content
    former_owner, can_own = _lock_owner(session, content)
    owner = former_owner if can_own else None
    address = content["email"]
    is_address_free = address is None or _is_free(session, address)
    changes = {
        "user_id": owner.id if owner else None,
        "email": address if is_address_free else None,
        "edited_at": now.isoformat(),  # no other profile replaces an edited one
        "updated_at": now.isoformat(),
    }
    _insert_all(session, archived, changes)
    session.execute(delete(ArchivedRow).where(ArchivedRow.id.in_([row.id for row in archived])))
    profile = load_profile_for_update(session, mentorado_id)
    if former_owner is not None and owner is None:
        release_profile(session, profile, former_owner)
    record_action(session, source, "restore", user=owner, profile=profile)
    if owner is not None and owner.blocked_at == archived[0].at:
        owner.blocked_at = None
        record_action(session, source, "allow", user=owner)
    clerk_ids = [owner.clerk_id] if owner else invalidate_claimants(session, profile)
    return RestoredProfile(
        profile,
        clerk_ids,
        has_lost_owner=former_owner is not None and owner is None,
        has_lost_address=address is not None and profile.email is None,
    )


def list_deleted(
    session: Session, now: datetime, *, mentorado_id: int | None = None, limit: int = 200
) -> list[DeletedProfile]:
    """Return the profiles that can be restored, the last deleted first."""
    event = _deletion_event()
    found = (
        select(
            ArchivedRow.mentorado_id,
            ArchivedRow.content["nome_completo"].astext,
            ArchivedRow.content["email"].astext,
            ArchivedRow.at,
            _row_counts(),
            User.name,
            event.c.details["reason"].astext,
        )
        .select_from(ArchivedRow)
        .outerjoin(event, literal(value=True))
        .outerjoin(User, User.id == event.c.actor_id)
        .where(archive.is_restorable(PROFILE_DELETED, now), ArchivedRow.table_name == MENTORADOS)
    )
    if mentorado_id is not None:
        found = found.where(ArchivedRow.mentorado_id == mentorado_id)
    newest_first = found.order_by(ArchivedRow.at.desc()).limit(limit)
    return [DeletedProfile(*row) for row in session.execute(newest_first)]


def _row_counts() -> ColumnElement[dict[str, int]]:
    """Return the number of archived rows by table, for the profile of the query around it."""
    rows = aliased(ArchivedRow)
    counts = (
        select(rows.mentorado_id, rows.table_name, func.count().label("number"))
        .where(rows.reason == PROFILE_DELETED, rows.table_name != MENTORADOS)
        .group_by(rows.mentorado_id, rows.table_name)
        .subquery()
    )
    by_table = (
        select(func.jsonb_object_agg(counts.c.table_name, counts.c.number))
        .where(counts.c.mentorado_id == ArchivedRow.mentorado_id)
        .scalar_subquery()
    )
    return func.coalesce(by_table, text("'{}'::jsonb"))


def _deletion_event() -> FromClause:
    """Return the audit event of the deletion, for the profile of the query around it."""
    newest = (
        select(AuditEvent.actor_id, AuditEvent.details)
        .where(
            AuditEvent.mentorado_id == ArchivedRow.mentorado_id,
            AuditEvent.event == "admin_action",
            AuditEvent.details["action"].astext == "delete",
        )
        .order_by(AuditEvent.id.desc())
        .limit(1)
    )
    return newest.lateral("event")


def find_merged_into(session: Session, mentorado_id: int) -> int | None:
    """Return the id of the profile that this one was merged into; None if it was not merged."""
    merges = select(ArchivedRow.kept_mentorado_id).where(
        ArchivedRow.mentorado_id == mentorado_id,
        ArchivedRow.reason == "merge",
        ArchivedRow.table_name == MENTORADOS,
    )
    return session.scalars(merges.order_by(ArchivedRow.id.desc()).limit(1)).one_or_none()


def _archive(session: Session, profile: Mentorado, source: Source, now: datetime) -> None:
    """Copy the profile and the rows that are deleted with it to the archive, parents first."""
    session.flush()
    query = f"SELECT {columns_of('r')} FROM ONLY mentorados r WHERE r.id = :id"  # noqa: S608
    level = [(MENTORADOS, row) for row in select_rows(session, query, {"id": profile.id})]
    found: dict[tuple[int, str], tuple[str, StoredRow]] = {}
    while level:
        found |= {(row.table_id, row.place): (table, row) for table, row in level}
        children = _deleted_with(session, [row for _, row in level])
        level = [each for each in children if (each[1].table_id, each[1].place) not in found]
    values = {
        "at": now,
        "reason": PROFILE_DELETED,
        "mentorado_id": profile.id,
        "kept_mentorado_id": profile.id,
        "user_id": profile.user_id,
        "request_id": source.request_id,
    }
    rows = [
        {**values, "table_name": table, "content": row.content} for table, row in found.values()
    ]
    session.execute(insert(ArchivedRow), rows)


def _deleted_with(session: Session, parents: Sequence[StoredRow]) -> list[tuple[str, StoredRow]]:
    """Lock and return the rows that the database deletes together with these, with their table."""
    rows: dict[tuple[int, str], tuple[str, StoredRow]] = {}
    for parent in sorted({row.table_name for row in parents}):
        places = [(row.table_id, row.place) for row in parents if row.table_name == parent]
        for child in references_to(session, parent):
            if child.is_deleted_along and not child.is_hidden:
                for row in _rows_of_parents(session, child, parent, places):
                    table = child.root_name if child.is_partitioned else row.table_name
                    rows[row.table_id, row.place] = (table, row)
    return list(rows.values())


def _rows_of_parents(
    session: Session, child: ReferringTable, parent: str, places: Sequence[tuple[int, str]]
) -> list[StoredRow]:
    query = f"""
        SELECT {columns_of("r")}
          FROM {child.rows} r, {escaped(parent)} p,
               unnest(CAST(:tables AS oid[]), CAST(:places AS tid[])) AS wanted (table_id, place)
         WHERE p.tableoid = wanted.table_id AND p.ctid = wanted.place
           AND {child.is_deleted_with("r", "p")}
         ORDER BY r.tableoid, r.ctid FOR UPDATE OF r
    """  # noqa: S608 - names of the catalogue, quoted by it
    tables, ctids = zip(*places, strict=True)
    return select_rows(session, query, {"tables": list(tables), "places": list(ctids)})


def _archived_rows(session: Session, mentorado_id: int, now: datetime) -> Sequence[ArchivedRow]:
    """Lock and return the copies of a deleted profile in the order in which they were made."""
    copies = select(ArchivedRow).where(
        ArchivedRow.mentorado_id == mentorado_id,
        archive.is_restorable(PROFILE_DELETED, now),
    )
    return session.scalars(copies.order_by(ArchivedRow.id).with_for_update()).all()


def _lock_owner(session: Session, content: dict[str, Any]) -> tuple[User | None, bool]:
    """Lock the users and the address of a deleted profile, in the order of a login.

    Returns its former owner, and whether they can have it back. An untouched profile that they have
    got meanwhile is deleted.
    """
    user_id, address = content["user_id"], content["email"]
    addresses = [address] if address else []
    users = lock_users(session, {user_id} if user_id else (), addresses)
    lock_addresses(session, addresses)
    owner = users.get(user_id)
    if owner is None or owner.deleted_at is not None:
        return owner, False
    own = session.scalars(
        select(Mentorado).where(Mentorado.user_id == owner.id).with_for_update()
    ).one_or_none()
    if own is not None and not is_untouched(session, own):
        return owner, False
    if own is not None:
        session.delete(own)
        session.flush()  # `user_id` is unique: it must be free for the restored profile
    return owner, True


def _is_free(session: Session, address: str) -> bool:
    """Whether no other profile has the address."""
    [holder] = find_holders(session, normalize_addresses(session, [address]))
    return holder is None


def _insert_all(session: Session, archived: Sequence[ArchivedRow], changes: dict[str, Any]) -> None:
    """Insert the archived profile with these changes, and its rows; raises ConflictError."""
    contents_by_table: dict[str, list[dict[str, Any]]] = {}
    for row in archived:
        contents_by_table.setdefault(row.table_name, []).append(row.content)
    contents_by_table[MENTORADOS] = [{**archived[0].content, **changes}]
    try:
        with session.begin_nested():
            for table, contents in contents_by_table.items():
                archive.insert_again(session, table, contents)
    except REFUSING_ERRORS as err:
        raise ConflictError(Conflict.UNRESOLVABLE) from err
