"""The audit log: events are written in the transaction of the change that they record.

Readers get the events of a filter, or those about one user and profile, with the current names.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
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

from models import AuditEvent, Mentorado, User
from provisioning.references import execute

# Parameters of an event for `insert_events_of`; `event_values` returns their values.
VALUE_PARAMETERS = {
    name: bindparam(name, type_=AuditEvent.__table__.c[name].type)
    for name in ("event", "entry", "actor_id", "request_id", "details")
}
# The condition of the partial index is that of migration 0021.
STRIP_OLD_EVENTS = """
    UPDATE audit_events SET details = details - CAST(array['before', 'after', 'email'] AS text[])
     WHERE id IN (SELECT id FROM audit_events
                   WHERE details ?| array['before', 'after', 'email'] AND at < :before
                   ORDER BY at LIMIT :limit)
"""
MAX_STRIPPED = 1_000  # events of one sweep


@dataclass(frozen=True, slots=True)
class Source:
    """Where a change or an ensure call comes from.

    `channel` is one of `page api webhook sweep admin cli`; `sweep` is all work of the background,
    also the refresh of a visitor's old identity. `request_id` joins the event to the logs.
    `actor_id` is the id of the admin who acts, if any, and `reason` the reason they gave.
    """

    channel: str
    request_id: str | None = None
    actor_id: int | None = None
    reason: str | None = None
    confirmation: str | None = None  # the digest of the preview that an admin has confirmed
    impersonator: str | None = None  # the Clerk id of the account that acts in the actor's session

    @property
    def is_user_request(self) -> bool:
        """Whether a request of the user is the source, so that it counts as a visit."""
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


def record_all(
    session: Session,
    source: Source,
    event: str,
    concerning: Iterable[tuple[int, int | None, dict[str, Any]]],
) -> None:
    """Add an event for each (id of a profile, id of its owner, details), in one statement."""
    rows = [
        {**event_values(source, event, details), "mentorado_id": mentorado_id, "user_id": user_id}
        for mentorado_id, user_id, details in concerning
    ]
    if rows:
        # Else rows with and without an owner would be different statements.
        session.execute(insert(AuditEvent).execution_options(render_nulls=True), rows)


def event_values(
    source: Source, event: str, details: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the values of an event without the ids of its user and profile."""
    extra = {
        "reason": source.reason,
        "confirmation": source.confirmation,
        "impersonator": source.impersonator,
    }
    given = {name: value for name, value in extra.items() if value}
    return {
        "event": event,
        "entry": source.channel,
        "actor_id": source.actor_id,
        "request_id": source.request_id,
        "details": {**(details or {}), **given} or None,
    }


def insert_events_of(changed: CTE, values: Mapping[str, ColumnElement[Any]]) -> Insert:
    """Return an INSERT of `values` for each profile of `changed`, which has `id` and `user_id`."""
    rows = select(*values.values(), changed.c.user_id, changed.c.id)
    columns = [*values, "user_id", "mentorado_id"]
    return insert(cast(Table, AuditEvent.__table__)).from_select(columns, rows)


def sweep_event_values(event: str) -> dict[str, ColumnElement[Any]]:
    """Return the values of an event of the sweep, which has no actor and no request."""
    return {"event": literal(event), "entry": literal("sweep")}


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What to read; an unset field does not limit. `until` is excluded.

    `kind` is the name of an event; with `is_action`, the action of an admin. Where `user_ids` or
    `mentorado_ids` is set, only events about one of them or by one of the users are read.
    """

    kind: str | None = None
    is_action: bool = False
    since: datetime | None = None
    until: datetime | None = None
    user_ids: Iterable[int] | None = None
    mentorado_ids: Iterable[int] | None = None


@dataclass(frozen=True, slots=True)
class AuditNames:
    """The current names of users and profiles by id; a deleted one has none."""

    users: Mapping[int, str]
    profiles: Mapping[int, str]

    def user(self, user_id: int | None) -> str:
        """Return the name of a user; the number of a deleted one, «—» for None."""
        return "—" if user_id is None else self.users.get(user_id, f"conta nº {user_id}")

    def profile(self, mentorado_id: int | None) -> str:
        """Return the name of a profile; the number of a deleted one, «—» for None."""
        number = f"perfil nº {mentorado_id}"
        return "—" if mentorado_id is None else self.profiles.get(mentorado_id, number)


def read_events(
    session: Session, wanted: AuditFilter, *, before_id: int | None = None, limit: int
) -> list[AuditEvent]:
    """Return the newest events of a filter first, before an id."""
    found = select(AuditEvent).order_by(AuditEvent.id.desc()).limit(limit)
    if wanted.kind is not None and wanted.is_action:
        action = AuditEvent.details["action"].astext
        found = found.where(AuditEvent.event == "admin_action", action == wanted.kind)
    elif wanted.kind is not None:
        found = found.where(AuditEvent.event == wanted.kind)
    if wanted.since is not None:
        found = found.where(AuditEvent.at >= wanted.since)
    if wanted.until is not None:
        found = found.where(AuditEvent.at < wanted.until)
    if wanted.user_ids is not None or wanted.mentorado_ids is not None:
        users, profiles = list(wanted.user_ids or ()), list(wanted.mentorado_ids or ())
        is_about_user = or_(AuditEvent.user_id.in_(users), AuditEvent.actor_id.in_(users))
        found = found.where(or_(is_about_user, AuditEvent.mentorado_id.in_(profiles)))
    if before_id is not None:
        found = found.where(AuditEvent.id < before_id)
    return list(session.scalars(found))


def read_history(
    session: Session, *, user_id: int | None = None, mentorado_id: int | None = None, limit: int
) -> list[AuditEvent]:
    """Return the newest events about a user, a profile or either of both."""
    subjects = ((AuditEvent.user_id, user_id), (AuditEvent.mentorado_id, mentorado_id))
    about = or_(*(column == value for column, value in subjects if value is not None))
    found = select(AuditEvent).where(about).order_by(AuditEvent.id.desc())
    return list(session.scalars(found.limit(limit)))


def read_names(session: Session, events: Iterable[AuditEvent]) -> AuditNames:
    """Return the names of the users and profiles of these events, in two statements."""
    events = list(events)
    user_ids = {i for event in events for i in (event.user_id, event.actor_id) if i is not None}
    profile_ids = {event.mentorado_id for event in events if event.mentorado_id is not None}
    profiles = select(Mentorado.id, Mentorado.nome_completo).where(Mentorado.id.in_(profile_ids))
    return AuditNames(
        read_user_names(session, user_ids),
        {row.id: row.nome_completo for row in session.execute(profiles)},
    )


def read_user_names(session: Session, user_ids: Iterable[int]) -> dict[int, str]:
    """Return by id the name of each user, or else the address or the number."""
    users = select(User.id, User.name, User.email).where(User.id.in_(list(user_ids)))
    return {row.id: row.name or row.email or f"conta nº {row.id}" for row in session.execute(users)}


def strip_old_events(session: Session, before: datetime) -> int:
    """Remove the values before and after from events older than `before`; return their number."""
    parameters = {"before": before, "limit": MAX_STRIPPED}
    return execute(session, STRIP_OLD_EVENTS, parameters).rowcount
