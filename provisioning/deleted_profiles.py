"""Delete a profile with everything that belongs to it, and restore it within thirty days.

1. `remove` copies the profile and all rows that the database deletes with it, of any table, to
   the archive; then it deletes the profile and blocks its owner.
2. `restore` writes these rows again, parents first, with the ids that they had.
3. `delete_old` deletes the copies after thirty days.

Rows whose reference the database only sets to NULL stay, and are not restored. The archive also has
deleted months (`dashboard/own_changes.py`), and rows that a merge has archived, which stay.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from models import ArchivedRow, Mentorado, User
from provisioning.admin_actions import (
    block,
    delete_untouched,
    invalidate_claimants,
    load_profile_for_update,
    lock_profile_and_owner,
    record_action,
    release_profile,
)
from provisioning.audit import Source
from provisioning.errors import Conflict, ConflictError, UnknownMentoradoError
from provisioning.preregistration import Verdict, find_outcomes, lock_users_and_addresses
from provisioning.references import (
    MENTORADOS,
    REFUSING_ERRORS,
    StoredRow,
    by_leaf,
    escaped,
    execute,
    references_to,
    rows_by_id,
    rows_referring,
)

RESTORE_TIME = timedelta(days=30)
PROFILE_DELETED, MONTH_DELETED = "delete", "month_deleted"  # reasons of archived rows

# The columns that can be written, of a table that still exists, also those of other programs.
COLUMNS = text("""
    SELECT to_regclass(:table)::text AS table_name,
           ARRAY(SELECT quote_ident(attname) FROM pg_attribute
                  WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped
                    AND attgenerated = '' AND CAST(:contents AS jsonb) -> 0 ? attname) AS columns
""")
# The newest audit event of a deletion tells who deleted the profile, and why.
DELETED = """
    SELECT a.mentorado_id, a.content ->> 'nome_completo' AS name, a.content ->> 'email' AS email,
           a.at AS deleted_at, u.name AS actor_name, e.details ->> 'reason' AS reason,
           (SELECT coalesce(jsonb_object_agg(table_name, number), '{}')
              FROM (SELECT table_name, count(*) AS number FROM archived_rows r
                     WHERE r.mentorado_id = a.mentorado_id AND reason = 'delete'
                       AND table_name <> 'mentorados'
                     GROUP BY table_name) AS counts) AS rows
      FROM archived_rows a
      LEFT JOIN LATERAL (
           SELECT actor_id, details FROM audit_events
            WHERE mentorado_id = a.mentorado_id AND event = 'admin_action'
              AND details ->> 'action' = 'delete'
            ORDER BY id DESC LIMIT 1) e ON true
      LEFT JOIN users u ON u.id = e.actor_id
     WHERE a.reason = 'delete' AND a.table_name = 'mentorados' AND a.at > :since
       AND (CAST(:mentorado_id AS integer) IS NULL OR a.mentorado_id = :mentorado_id)
     ORDER BY a.at DESC LIMIT :limit
"""


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
    profile, owner = lock_profile_and_owner(session, mentorado_id)
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
    [outcome] = find_outcomes(session, [address])
    changes = {
        "user_id": owner.id if owner else None,
        "email": address if outcome.verdict is Verdict.NEW else None,
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
    parameters = {"since": now - RESTORE_TIME, "mentorado_id": mentorado_id, "limit": limit}
    return [DeletedProfile(**row) for row in execute(session, DELETED, parameters).mappings()]


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
    level = rows_by_id(session, MENTORADOS, [profile.id])
    found: dict[tuple[int, str], StoredRow] = {}
    while level:
        found |= {row.key: row for row in level}
        children = _deleted_with(session, by_leaf(level))
        level = list({row.key: row for row in children if row.key not in found}.values())
    values = {
        "at": now,
        "reason": PROFILE_DELETED,
        "mentorado_id": profile.id,
        "kept_mentorado_id": profile.id,
        "user_id": profile.user_id,
        "request_id": source.request_id,
    }
    rows = [
        {**values, "table_name": row.table.root_name, "content": row.content}
        for row in found.values()
    ]
    session.execute(insert(ArchivedRow), rows)


def _deleted_with(
    session: Session, parents: Mapping[str, Sequence[StoredRow]]
) -> Iterator[StoredRow]:
    """Lock and yield the rows that the database deletes together with these, grouped by leaf."""
    for leaf in sorted(parents):
        for child in references_to(session, leaf):
            cascading = [reference for reference in child.references if reference.is_cascading]
            if cascading and not child.is_hidden:
                yield from rows_referring(session, child, cascading, parents[leaf])


def _archived_rows(session: Session, mentorado_id: int, now: datetime) -> Sequence[ArchivedRow]:
    """Lock and return the copies of a deleted profile in the order in which they were made."""
    copies = select(ArchivedRow).where(is_restorable(PROFILE_DELETED, now))
    of_profile = copies.where(ArchivedRow.mentorado_id == mentorado_id).order_by(ArchivedRow.id)
    return session.scalars(of_profile.with_for_update()).all()


def _lock_owner(session: Session, content: dict[str, Any]) -> tuple[User | None, bool]:
    """Lock the users and the address of a deleted profile, in the order of a login.

    Returns its former owner, and whether they can have it back. An untouched profile that they have
    got meanwhile is deleted.
    """
    user_id, address = content["user_id"], content["email"]
    user_ids = [user_id] if user_id else []
    owner = lock_users_and_addresses(session, [address], user_ids=user_ids).get(user_id)
    if owner is not None and owner.deleted_at is None:
        with suppress(ConflictError):  # of a profile that is not untouched
            delete_untouched(session, owner)
            return owner, True
    return owner, False


def _insert_all(session: Session, archived: Sequence[ArchivedRow], changes: dict[str, Any]) -> None:
    """Insert the archived profile with these changes, and its rows; raises ConflictError."""
    contents_by_table: dict[str, list[dict[str, Any]]] = {}
    for row in archived:
        contents_by_table.setdefault(row.table_name, []).append(row.content)
    contents_by_table[MENTORADOS] = [{**archived[0].content, **changes}]
    try:
        with session.begin_nested():
            for table, contents in contents_by_table.items():
                insert_again(session, table, contents)
    except REFUSING_ERRORS as err:
        raise ConflictError(Conflict.UNRESOLVABLE) from err


def is_restorable(reason: str, now: datetime) -> ColumnElement[bool]:
    """Return the condition of rows that were archived for this reason, for thirty days."""
    return and_(ArchivedRow.reason == reason, ArchivedRow.at > now - RESTORE_TIME)


def insert_again(
    session: Session, table: str, contents: Sequence[dict[str, Any]], *, skip_existing: bool = False
) -> int:
    """Insert archived rows of one table and return their number.

    Columns that were added since get their defaults. It is one statement, because the rows may
    refer to each other. Raises ConflictError where the table is gone, and what the database raises;
    with `skip_existing`, a row that violates a unique constraint is left out instead.
    """
    values = {"table": table, "contents": json.dumps(contents)}
    found = session.execute(COLUMNS, values).one()
    if found.table_name is None:
        raise ConflictError(Conflict.UNRESOLVABLE, table)
    columns, name = ", ".join(map(escaped, found.columns)), escaped(found.table_name)
    rows = f"jsonb_populate_recordset(CAST(NULL AS {name}), CAST(:contents AS jsonb))"
    statement = f"""
        INSERT INTO {name} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {rows}
        {"ON CONFLICT DO NOTHING" if skip_existing else ""}
    """  # noqa: S608 - names of the catalogue, quoted by it
    return execute(session, statement, values).rowcount


def delete_old(session: Session, now: datetime) -> None:
    """Delete the copies of profiles and months that can no longer be restored."""
    reasons = ArchivedRow.reason.in_([PROFILE_DELETED, MONTH_DELETED])
    session.execute(delete(ArchivedRow).where(reasons, ArchivedRow.at <= now - RESTORE_TIME))
