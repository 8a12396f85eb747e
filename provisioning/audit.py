"""The audit log: events are written in the transaction of the change they record."""

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
    """Where a change or an ensure call comes from.

    `channel` is one of `page api webhook sweep admin cli`. `request_id` joins the event to the
    logs. `actor_id` is the id of the admin who acts, if any, and `reason` the reason they gave.
    """

    channel: str
    request_id: str | None = None
    actor_id: int | None = None
    reason: str | None = None
    confirmation: str | None = None  # the digest of the preview that an admin has confirmed
    impersonator: str | None = None  # the Clerk id of the account that acts in the actor's session

    @property
    def is_sign_in(self) -> bool:
        """Whether a request of the user is the source."""
        return self.channel in ("page", "api")

    @property
    def is_background(self) -> bool:
        """Whether no client waits for the answer."""
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
    """Add one event in the caller's transaction."""
    values = event_values(source, event, details)
    session.execute(insert(AuditEvent).values(user_id=user_id, mentorado_id=mentorado_id, **values))


def record_each(
    session: Session,
    source: Source,
    event: str,
    *,
    concerning: Iterable[tuple[int, int | None]],
    details: dict[str, Any] | None = None,
) -> None:
    """Add the same event for each of many profiles, in one statement.

    `concerning` holds the ids of the profiles, each with the id of its owner or None.
    """
    values = event_values(source, event, details)
    rows = [
        {**values, "mentorado_id": mentorado_id, "user_id": user_id}
        for mentorado_id, user_id in concerning
    ]
    if rows:
        session.execute(insert(AuditEvent), rows)


def record_all(
    session: Session,
    source: Source,
    event: str,
    concerning: Iterable[tuple[int, int | None, dict[str, Any]]],
) -> None:
    """As `record_each`, with details of its own for each profile."""
    rows = [
        {
            **event_values(source, event, details),
            "mentorado_id": mentorado_id,
            "user_id": user_id,
        }
        for mentorado_id, user_id, details in concerning
    ]
    if rows:
        session.execute(insert(AuditEvent), rows)


def event_values(
    source: Source, event: str, details: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the values of an event without the ids of its user and profile."""
    extra = {"reason": source.reason} if source.reason else {}
    if source.confirmation:
        extra["confirmation"] = source.confirmation
    if source.impersonator:
        extra["impersonator"] = source.impersonator
    return {
        "event": event,
        "entry": source.channel,
        "actor_id": source.actor_id,
        "request_id": source.request_id,
        "details": {**(details or {}), **extra} or None,
    }


def insert_events_of(changed: CTE, values: Mapping[str, ColumnElement[Any]]) -> Insert:
    """Return an INSERT of an event for each changed row, to be part of the change's statement.

    `changed` has the columns `id` of a profile and `user_id`; `values` is the rest of the event.
    """
    rows = select(*values.values(), changed.c.user_id, changed.c.id)
    columns = [*values, "user_id", "mentorado_id"]
    return insert(cast(Table, AuditEvent.__table__)).from_select(columns, rows)


def sweep_event_values(event: str) -> dict[str, ColumnElement[Any]]:
    """Return the values of an event of the sweep, which has no actor and no request."""
    return {"event": literal(event), "entry": literal("sweep")}


def events(
    session: Session,
    *,
    before_id: int | None = None,
    limit: int,
    user_id: int | None = None,
    mentorado_id: int | None = None,
) -> list[AuditEvent]:
    """Return the newest events first: about a user, a profile, either of both, or all."""
    found = select(AuditEvent).order_by(AuditEvent.id.desc()).limit(limit)
    if before_id is not None:
        found = found.where(AuditEvent.id < before_id)
    conditions = [
        column == value
        for column, value in (
            (AuditEvent.user_id, user_id),
            (AuditEvent.mentorado_id, mentorado_id),
        )
        if value is not None
    ]
    return list(session.scalars(found.where(or_(*conditions)) if conditions else found))


_VALUES = ("event", "entry", "actor_id", "request_id", "details")
# Parameters of an event for `insert_events_of`; `event_values` returns their values.
VALUE_PARAMETERS = {
    name: bindparam(name, type_=AuditEvent.__table__.c[name].type) for name in _VALUES
}
