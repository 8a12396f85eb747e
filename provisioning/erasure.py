"""The erasure of a person (docs/pt-BR/dados-pessoais.md), in the caller's transaction.

1. Find the person's rows in all tables (`provisioning/personal_data.py`) and lock them.
2. Release rows of other persons that name this one, and delete the person's rows, archived ones and
   failed attempts.
3. Strip the audit events about the person, and remove their name, addresses, photo and Clerk id
   from records that stay.
4. Delete the account. It stays under a random pseudonym where rows of other persons need it.
5. Add the audit event `person_erased` with the counts.
"""

import json
import secrets
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import NotSupportedError
from sqlalchemy.orm import Session

from core.database import rolled_back
from models.people import Role
from provisioning import audit
from provisioning.audit import Source
from provisioning.errors import Conflict, ConflictError
from provisioning.personal_data import (
    EVENTS,
    RECORDS,
    USERS,
    ForeignRow,
    Person,
    PersonRows,
    find_rows,
)
from provisioning.references import REFUSING_ERRORS, ROW, StoredRow, escaped, execute

ERASED = "(apagado)"  # replaces a value in a record that stays
EVENT = "person_erased"
PSEUDONYM_PREFIX = "erased_"  # of a Clerk id; Clerk's own begin otherwise
# Errors by which another program's rules and triggers refuse a deletion.
DELETION_ERRORS = (*REFUSING_ERRORS, NotSupportedError)

# Of an event about the person, only the action, who acted in their session, numbers and flags stay.
STRIP_EVENTS = f"""
    UPDATE audit_events SET request_id = NULL, details = (
        SELECT jsonb_object_agg(key, value)
          FROM jsonb_each(CASE jsonb_typeof(details) WHEN 'object' THEN details END)
         WHERE jsonb_typeof(value) IN ('number', 'boolean') OR key IN ('action', 'impersonator'))
     WHERE {EVENTS}
"""  # noqa: S608 - constants, and names of the catalogue quoted by it; here and below
# Events with texts that people have written; they have partial indexes (migration 0021).
WITH_TEXTS = """(details ?| array['reason', 'impersonator']
                 OR details ?| array['before', 'after', 'email'])"""
# Texts of records that stay, which may contain a person's name or address: table, column, type and
# a condition that limits the rows.
KEPT_TEXTS = (
    ("audit_events", "details", "jsonb", WITH_TEXTS),
    ("archived_rows", "content", "jsonb", "true"),
    ("adoptions", "facts", "jsonb", "true"),
    ("admin_jobs", "content", "text", "true"),
    ("admin_jobs", "results", "jsonb", "true"),
    ("admin_jobs", "rejected", "jsonb", "true"),
    ("admin_jobs", "options", "jsonb", "true"),
    ("admin_jobs", "reason", "text", "true"),
)
TEXT_COLUMNS = text("""
    SELECT quote_ident(attname) AS name, format_type(atttypid, atttypmod) AS type
      FROM pg_attribute
     WHERE attrelid = CAST(:table_id AS oid) AND attnum > 0 AND NOT attisdropped
       AND attgenerated = '' AND (atttypid IN ('json'::regtype, 'jsonb'::regtype)
        OR atttypid IN (SELECT oid FROM pg_type WHERE typcategory = 'S'))
""")


@dataclass(frozen=True, slots=True)
class Erasure:
    """The number of deleted or changed rows by table, and the Clerk id that was erased."""

    clerk_id: str | None
    counts: Mapping[str, int]


def erase_person(session: Session, person: Person, *, source: Source) -> Erasure:
    """Erase the person, found with `lock`; return what was deleted and changed.

    Raises ConflictError for the admin's own account, and where a row of another program cannot be
    read, released or deleted. Then nothing may be committed.
    """
    if person.user_id is not None and person.user_id == source.actor_id:
        raise ConflictError(Conflict.OWN_ACCOUNT)
    rows = find_rows(session, person.user_id, person.profile_ids, lock=True)
    if rows.hidden_tables:
        raise ConflictError(Conflict.STILL_REFERENCED, ", ".join(sorted(rows.hidden_tables)))
    counts = Counter[str]()
    pseudonym = f"{PSEUDONYM_PREFIX}{secrets.token_hex(8)}"
    replacements = {v: pseudonym if v == person.clerk_id else ERASED for v in person.values}
    with session.begin_nested():
        try:
            needs_account = _release(session, rows, replacements)
            _delete_rows(session, rows, counts)
            _delete_account(session, person, pseudonym if needs_account else None, counts)
        except DELETION_ERRORS as err:
            raise ConflictError(Conflict.STILL_REFERENCED) from err
        for table in ("archived_rows", "provisioning_attempts"):
            delete = f"DELETE FROM {table} WHERE {RECORDS[table]}"  # noqa: S608
            counts[table] += execute(session, delete, person.parameters).rowcount
        _strip_records(session, person, replacements, counts)
    session.expire_all()
    counts = +counts  # without zeros
    reason = source.reason
    for value, replacement in replacements.items():
        reason = reason.replace(value, replacement) if reason else None
    audit.record(
        session,
        replace(source, reason=reason),
        EVENT,
        user_id=person.user_id,
        mentorado_id=next(iter(person.profile_ids), None),
        details={"pseudonym": pseudonym, "counts": dict(counts)},
    )
    return Erasure(person.clerk_id, dict(sorted(counts.items())))


def preview_erasure(session: Session, person: Person, *, source: Source) -> Erasure:
    """Erase the person in a savepoint, roll it back, and return the result."""
    with rolled_back(session):
        erasure = erase_person(session, person, source=source)
    session.expire_all()
    return erasure


def _release(session: Session, rows: PersonRows, replacements: Mapping[str, str]) -> bool:
    """Remove references and values of the person from rows of others.

    Returns whether such a row needs the account. Raises ConflictError for one that needs another
    row of the person.
    """
    deleted = {row.key for row in rows.own if row.table.root_name != USERS}
    needed: set[str] = set()
    for foreign in (each for key, each in rows.foreign.items() if key not in deleted):
        targets = {target for target, key in foreign.references if not key.is_optional}
        if targets - {USERS}:
            raise ConflictError(Conflict.STILL_REFERENCED, foreign.row.leaf)
        needed |= targets
        _rewrite(session, foreign, replacements)
    return bool(needed)


def _rewrite(session: Session, foreign: ForeignRow, replacements: Mapping[str, str]) -> None:
    """Set optional references to NULL, and replace the person's values in the row's texts."""
    row = foreign.row
    parameters: dict[str, Any] = {}
    optional = [key for _, key in foreign.references if key.is_optional]
    changes = dict.fromkeys((escaped(name) for key in optional for name in key.columns), "NULL")
    content = json.dumps(row.content, ensure_ascii=False)
    if any(_as_json_text(value) in content for value in replacements):
        for column in session.execute(TEXT_COLUMNS, {"table_id": row.table_id}).all():
            is_json = column.type.startswith("json")
            name = escaped(column.name)
            replaced = _replaced(name, replacements, parameters, is_json=is_json)
            changes.setdefault(name, f"CAST({replaced} AS {column.type})")
    if not changes:
        return
    assignments = ", ".join(f"{name} = {value}" for name, value in changes.items())
    update = f"UPDATE {row.table.root} r SET {assignments} WHERE {ROW}"  # noqa: S608
    updated = execute(session, update, {**parameters, **row.address})
    if updated.rowcount != 1:  # a trigger or a rule of another program prevented it
        raise ConflictError(Conflict.STILL_REFERENCED, row.leaf)


def _replaced(
    column: str, replacements: Mapping[str, str], parameters: dict[str, Any], *, is_json: bool
) -> str:
    """Return SQL for a column as text with the values replaced; adds its parameters."""
    expression = f"CAST({column} AS text)"
    for number, (value, replacement) in enumerate(replacements.items()):
        kind = "json" if is_json else "text"
        parameters[f"{kind}_{number}"] = _as_json_text(value) if is_json else value
        parameters[f"new_{number}"] = replacement
        expression = f"replace({expression}, :{kind}_{number}, :new_{number})"
    return expression


def _as_json_text(value: str) -> str:
    """Return a text as it is written within a JSON text."""
    return json.dumps(value, ensure_ascii=False)[1:-1]


def _delete_rows(session: Session, rows: PersonRows, counts: Counter[str]) -> None:
    """Delete and count all rows but the account, in one statement: keys are checked at its end."""
    by_root: defaultdict[str, list[StoredRow]] = defaultdict(list)
    for row in rows.own:
        if row.table.root_name != USERS:
            by_root[row.table.root].append(row)
    if not by_root:
        return
    parameters: dict[str, Any] = {}
    deletes, counted = [], []
    for number, (root, group) in enumerate(by_root.items()):
        parameters[f"ids_{number}"] = [row.table_id for row in group]
        parameters[f"places_{number}"] = [row.place for row in group]
        deletes.append(f"""deleted_{number} AS (
            DELETE FROM {root} r
             USING unnest(CAST(:ids_{number} AS oid[]), CAST(:places_{number} AS tid[]))
                   AS found (table_id, place)
             WHERE r.tableoid = found.table_id AND r.ctid = found.place RETURNING 1)""")  # noqa: S608
        counted.append(f"(SELECT count(*) FROM deleted_{number})")  # noqa: S608
    statement = f"WITH {', '.join(deletes)} SELECT {', '.join(counted)}"
    deleted = execute(session, statement, parameters).one()
    for count, group in zip(tuple(deleted), by_root.values(), strict=True):
        table = group[0].table.root_name
        if count != len(group):  # a trigger or a rule of another program prevented it
            raise ConflictError(Conflict.STILL_REFERENCED, table)
        counts[table] += count


def _strip_records(
    session: Session, person: Person, replacements: Mapping[str, str], counts: Counter[str]
) -> None:
    """Remove the person's values from records that stay; count the changed rows by table."""
    counts["audit_events"] += execute(session, STRIP_EVENTS, person.parameters).rowcount
    for table, column, kind, condition in KEPT_TEXTS if replacements else ():
        parameters: dict[str, Any] = {}
        replaced = _replaced(column, replacements, parameters, is_json=kind == "jsonb")
        searched = [v for name, v in parameters.items() if not name.startswith("new_")]
        update = f"""
            UPDATE {table} SET {column} = CAST({replaced} AS {kind})
             WHERE {condition} AND EXISTS (
                   SELECT FROM unnest(CAST(:values AS text[])) AS value
                    WHERE strpos(CAST({column} AS text), value) > 0)
        """  # noqa: S608
        counts[table] += execute(session, update, {**parameters, "values": searched}).rowcount


def _delete_account(
    session: Session, person: Person, pseudonym: str | None, counts: Counter[str]
) -> None:
    """Delete the account; with a pseudonym, keep its row under it, without any other value."""
    if person.user_id is None:
        return
    statement = "DELETE FROM users WHERE id = :user_id"
    if pseudonym is not None:
        statement = """
            UPDATE users SET clerk_id = :pseudonym, name = NULL, email = NULL,
                   email_verified = false, image_url = NULL, login_method = NULL, role = :role,
                   admin_by_address = false, identity_as_of = NULL, identity_completed_at = now(),
                   identity_asked_at = NULL, blocked_at = NULL, deleted_at = now()
             WHERE id = :user_id
        """
    execute(session, statement, {**person.parameters, "pseudonym": pseudonym, "role": Role.USER})
    counts[USERS] += 1
