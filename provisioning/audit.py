"""The record of what was changed, written in the transaction that changes it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import (
    CTE,
    ColumnElement,
    Insert,
    Table,
    bindparam,
    insert,
    literal,
    or_,
    select,
)
from sqlalchemy.orm import Session

from models import AuditEvent


@dataclass(frozen=True, slots=True)
class Source:
    """The door through which a change came: `page api webhook sweep admin cli`.

    `request_id` joins the record to the logs; `actor_id` is the admin who acts, if one does, and
    `reason` why.
    """

    channel: str
    request_id: str | None = None
    actor_id: int | None = None
    reason: str | None = None
    confirmation: str | None = None  # the digest of the preview that an admin has confirmed

    @property
    def is_sign_in(self) -> bool:
        """Whether the person is there in person."""
        return self.channel in ("page", "api")

    @property
    def is_background(self) -> bool:
        """Whether nobody waits for the answer."""
        return self.channel == "sweep"


def record(
    session: Session,
    source: Source,
    event: str,
    *,
    user_id: int | None = None,
    mentorado_id: int | None = None,
    details: dict[str, Any] | None = None,
) -> None:
    """Add one event; it stands or falls with the transaction."""
    values = values_of(source, event, details)
    session.execute(insert(AuditEvent).values(user_id=user_id, mentorado_id=mentorado_id, **values))


def record_each(
    session: Session,
    source: Source,
    event: str,
    *,
    concerning: Iterable[tuple[int, int | None]],
    details: dict[str, Any] | None = None,
) -> None:
    """Add the same event for each of many profiles, in one go.

    `concerning` are the ids of the profiles, each with that of its owner if it has one.
    """
    values = values_of(source, event, details)
    rows = [
        {**values, "mentorado_id": mentorado_id, "user_id": user_id}
        for mentorado_id, user_id in concerning
    ]
    if rows:
        session.execute(insert(AuditEvent), rows)


def values_of(source: Source, event: str, details: dict[str, Any] | None = None) -> dict[str, Any]:
    """What an event says apart from whom it concerns."""
    why = {"reason": source.reason} if source.reason else {}
    if source.confirmation:
        why["confirmation"] = source.confirmation
    return {
        "event": event,
        "entry": source.channel,
        "actor_id": source.actor_id,
        "request_id": source.request_id,
        "details": {**(details or {}), **why} or None,
    }


def record_of(changed: CTE, said: Mapping[str, ColumnElement[Any]]) -> Insert:
    """Add an event for each row of a change, in that change's own statement.

    `changed` has the columns `id` of a profile and `user_id`; `said` is the rest of the event.
    """
    rows = select(*said.values(), changed.c.user_id, changed.c.id)
    into = [*said, "user_id", "mentorado_id"]
    return insert(cast(Table, AuditEvent.__table__)).from_select(into, rows)


def by_the_sweep(event: str) -> dict[str, ColumnElement[Any]]:
    """What an event of the sweep says; nobody has asked for it."""
    return {"event": literal(event), "entry": literal("sweep")}


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


_SAID = ("event", "entry", "actor_id", "request_id", "details")
# What an event says, to be bound when its statement is executed, by `values_of`.
BOUND = {name: bindparam(name, type_=AuditEvent.__table__.c[name].type) for name in _SAID}
