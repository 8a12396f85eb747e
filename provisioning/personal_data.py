"""Who a person is, and everything that is kept about them, in one document."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from core.types import Timestamp
from models import Mentorado, User
from provisioning.errors import UnknownUserError
from provisioning.person_rows import NamingRow, find_rows
from provisioning.profiles import DEFAULT_NAME, lock_addresses

SHORTEST_VALUE = 6  # shorter texts are parts of other words

# The profiles that the account had, and that no other account has had since; an unlinked one counts
# if the account's deletion has unlinked it. Then the profiles that were merged into one of them.
PAST_PROFILES = text("""
    WITH RECURSIVE latest AS (
        SELECT DISTINCT ON (e.mentorado_id) e.mentorado_id, e.user_id, e.event
          FROM audit_events e
         WHERE e.user_id IS NOT NULL AND e.mentorado_id IN (
               SELECT mentorado_id FROM audit_events WHERE user_id = :user_id)
         ORDER BY e.mentorado_id, e.id DESC
    ), past AS (
        SELECT l.mentorado_id AS id
          FROM latest l LEFT JOIN mentorados m ON m.id = l.mentorado_id
         WHERE l.user_id = :user_id
           AND (m.id IS NULL OR (m.user_id IS NULL AND l.event = 'user_deleted'))
         UNION SELECT unnest(CAST(:profile_ids AS integer[]))
    ), merged AS (
        SELECT id FROM past
         UNION SELECT a.mentorado_id FROM merged g JOIN archived_rows a
                   ON a.kept_mentorado_id = g.id AND a.reason = 'merge'
    )
    SELECT g.id, m.id IS NOT NULL AND m.user_id IS NULL AS is_unlinked
      FROM merged g LEFT JOIN mentorados m ON m.id = g.id
""")
UNLINKED_PROFILES = text("""
    SELECT id FROM mentorados
     WHERE user_id IS NULL AND normalized_address(email) = normalized_address(:address)
""")
EVENTS = "user_id = :user_id OR (mentorado_id = ANY (:past_ids) AND user_id IS NULL)"
ARCHIVED = "mentorado_id = ANY (:past_ids) OR kept_mentorado_id = ANY (:past_ids)"


@dataclass(frozen=True, slots=True)
class Person:
    """An account, its profiles, and all profiles that it has had; or profiles without an account.

    `values` are the texts that identify the person: Clerk id, addresses, names, photos.
    """

    user_id: int | None
    clerk_id: str | None
    profile_ids: tuple[int, ...]
    past_ids: tuple[int, ...]
    values: tuple[str, ...] = field(repr=False)

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of the statements above."""
        return {
            "user_id": self.user_id,
            "clerk_id": self.clerk_id,
            "past_ids": list(self.past_ids),
        }


def find_person(session: Session, user_id: int, *, lock: bool = False) -> Person:
    """Return the person of an account; raises UnknownUserError."""
    account = select(User).where(User.id == user_id)
    user = session.scalars(
        account.with_for_update() if lock else account,
        execution_options={"populate_existing": True},
    ).one_or_none()
    if user is None:
        raise UnknownUserError(f"there is no user {user_id}")
    if lock and user.email:
        lock_addresses(session, [user.email])
    address = user.email if user.email_verified else None
    return _person(session, user, _unlinked_ids(session, address), lock=lock)


def find_person_without_account(session: Session, address: str, *, lock: bool = False) -> Person:
    """Return the pre-registered person with an address; raises UnknownUserError."""
    if lock:
        lock_addresses(session, [address])
    profile_ids = _unlinked_ids(session, address)
    if not profile_ids:
        raise UnknownUserError("there is no account or profile with that address")
    return _person(session, None, profile_ids, lock=lock)


class NamingRowShape(TypedDict):
    """A row of others that names the person: its table, its id and the referring columns."""

    table: str
    row: dict[str, Any]


class PersonExport(TypedDict):
    """Everything that is kept about a person: the rows of each table, under their columns."""

    exported_at: Timestamp
    user_id: int | None
    clerk_id: str | None
    mentorado_ids: list[int]
    tables: dict[str, list[dict[str, Any]]]
    named_in: list[NamingRowShape]
    hidden_tables: list[str]


def export_person(session: Session, person: Person, *, now: datetime) -> PersonExport:
    """Return everything that is kept about the person, as JSON values by table.

    Of rows that belong to others and only name the person, the ids are listed. `hidden_tables` are
    tables that this program may not read.
    """
    rows = find_rows(session, person.user_id, person.profile_ids)
    tables = rows.by_table()
    for table, condition in (
        ("audit_events", EVENTS),
        ("archived_rows", ARCHIVED),
        ("provisioning_attempts", "clerk_id = :clerk_id"),
    ):
        query = f"SELECT to_jsonb(r) FROM {table} r WHERE {condition} ORDER BY id"  # noqa: S608 - constants
        tables[table] = list(session.scalars(text(query), person.parameters))
    return {
        "exported_at": now.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "user_id": person.user_id,
        "clerk_id": person.clerk_id,
        "mentorado_ids": list(person.profile_ids),
        "tables": {name: contents for name, contents in sorted(tables.items()) if contents},
        "named_in": [_named_in(naming) for naming in rows.naming.values()],
        "hidden_tables": sorted(rows.hidden_tables),
    }


def _unlinked_ids(session: Session, address: str | None) -> list[int]:
    return list(session.scalars(UNLINKED_PROFILES, {"address": address})) if address else []


def _person(
    session: Session, user: User | None, unlinked_ids: Collection[int], *, lock: bool
) -> Person:
    user_id = user.id if user else None
    owned = select(Mentorado.id).where(Mentorado.user_id == user_id)
    known_ids = [*unlinked_ids, *(session.scalars(owned) if user else ())]
    past = session.execute(PAST_PROFILES, {"user_id": user_id, "profile_ids": known_ids}).all()
    profile_ids = sorted({*known_ids, *(row.id for row in past if row.is_unlinked)})
    chosen = select(Mentorado).where(Mentorado.id.in_(profile_ids)).order_by(Mentorado.id)
    profiles = session.scalars(
        chosen.with_for_update() if lock else chosen,
        execution_options={"populate_existing": True},
    ).all()
    return Person(
        user_id,
        user.clerk_id if user else None,
        tuple(profile.id for profile in profiles),
        tuple(sorted({*profile_ids, *(row.id for row in past)})),
        _identifying_values(user, profiles),
    )


def _identifying_values(user: User | None, profiles: Sequence[Mentorado]) -> tuple[str, ...]:
    """Return the texts that identify a person, the longest first."""
    texts = [user.clerk_id, user.email, user.name, user.image_url] if user else []
    for profile in profiles:
        texts += [profile.email, profile.nome_completo, profile.foto_url]
    values = {value for value in texts if value and len(value) >= SHORTEST_VALUE}
    return tuple(sorted(values - {DEFAULT_NAME}, key=lambda value: (-len(value), value)))


def _named_in(naming: NamingRow) -> NamingRowShape:
    names = {name.strip('"') for _, key in naming.references for name in key.columns}
    return {
        "table": naming.row.table.root_name,
        "row": {k: v for k, v in naming.row.content.items() if k in {"id", *names}},
    }
