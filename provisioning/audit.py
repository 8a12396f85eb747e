"""The record of what was changed, written in the transaction that changes it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CTE, Insert, Table, Text, bindparam, func, insert, literal, or_, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from models import AuditEvent

ENTERED = ("entry", "actor_id", "request_id", "details")  # columns that tell of the door


@dataclass(frozen=True, slots=True)
class Entry:
    """The door through which a change came: `page api webhook sweep admin cli`.

    `request_id` joins the record to the logs; `actor_id` is the admin who acts, if one does, and
    `reason` why.
    """

    door: str
    request_id: str | None = None
    actor_id: int | None = None
    reason: str | None = None

    @property
    def is_sign_in(self) -> bool:
        """Whether the person is there in person."""
        return self.door in ("page", "api")

    @property
    def is_background(self) -> bool:
        """Whether nobody waits for the answer."""
        return self.door == "sweep"


def record(
    session: Session,
    entry: Entry,
    event: str,
    *,
    user_id: int | None = None,
    mentorado_id: int | None = None,
    details: dict[str, Any] | None = None,
) -> None:
    """Add one event; it stands or falls with the transaction."""
    values = {"event": event, **values_of(entry, details)}
    session.execute(insert(AuditEvent).values(user_id=user_id, mentorado_id=mentorado_id, **values))


def record_each(
    session: Session,
    entry: Entry,
    event: str,
    *,
    mentorado_ids: Iterable[int],
    details: dict[str, Any] | None = None,
) -> None:
    """Add the same event for each of many profiles, in one go."""
    values = {"event": event, **values_of(entry, details)}
    rows = [{**values, "mentorado_id": mentorado_id} for mentorado_id in mentorado_ids]
    session.execute(insert(AuditEvent), rows)


def recording(profiles: CTE) -> Insert:
    """A statement that records the events of the list `:events` for each of these rows of
    mentorados; the rest is bound by `values_of`.
    """
    event = (
        func.unnest(bindparam("events", type_=ARRAY(Text))).table_valued("event").render_derived()
    )
    facts = [bindparam(name, type_=AuditEvent.__table__.c[name].type) for name in ENTERED]
    rows = select(event.c.event, profiles.c.user_id, profiles.c.id, *facts).select_from(
        profiles.join(event, true())
    )
    into = ["event", "user_id", "mentorado_id", *ENTERED]
    return insert(cast(Table, AuditEvent.__table__)).from_select(into, rows)


def values_of(entry: Entry, details: dict[str, Any] | None = None) -> dict[str, Any]:
    """What every event says that came through this door."""
    why = {"reason": entry.reason} if entry.reason else {}
    return {
        "entry": entry.door,
        "actor_id": entry.actor_id,
        "request_id": entry.request_id,
        "details": {**(details or {}), **why} or None,
    }


def record_of(changed: CTE, event: str) -> Insert:
    """Add the same event of the sweep for each row of a change, in that change's own statement.

    `changed` has the columns `id` of a profile and `user_id`.
    """
    columns = ["event", "entry", "user_id", "mentorado_id"]
    facts = select(literal(event), literal("sweep"), changed.c.user_id, changed.c.id)
    return insert(AuditEvent).from_select(columns, facts)


def events(
    session: Session,
    *,
    before_id: int | None = None,
    limit: int,
    user_id: int | None = None,
    mentorado_id: int | None = None,
) -> list[AuditEvent]:
    """The newest events, newest first: of a person, of a profile, of either, or of everybody."""
    found = select(AuditEvent).order_by(AuditEvent.id.desc()).limit(limit)
    if before_id is not None:
        found = found.where(AuditEvent.id < before_id)
    concerned = [
        column == number
        for column, number in (
            (AuditEvent.user_id, user_id),
            (AuditEvent.mentorado_id, mentorado_id),
        )
        if number is not None
    ]
    return list(session.scalars(found.where(or_(*concerned)) if concerned else found))
