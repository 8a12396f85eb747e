"""Reading the audit log: events by filter, and the names of their users."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session

from models import AuditEvent, Mentorado, User

ADMIN_ACTION = "admin_action"


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

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the SQL conditions."""
        found: list[ColumnElement[bool]] = []
        if self.kind is not None:
            action = AuditEvent.details["action"].astext
            is_action = and_(AuditEvent.event == ADMIN_ACTION, action == self.kind)
            found.append(is_action if self.is_action else AuditEvent.event == self.kind)
        if self.since is not None:
            found.append(AuditEvent.at >= self.since)
        if self.until is not None:
            found.append(AuditEvent.at < self.until)
        if self.user_ids is not None or self.mentorado_ids is not None:
            users, profiles = list(self.user_ids or ()), list(self.mentorado_ids or ())
            found.append(
                or_(
                    AuditEvent.user_id.in_(users),
                    AuditEvent.actor_id.in_(users),
                    AuditEvent.mentorado_id.in_(profiles),
                )
            )
        return found


@dataclass(frozen=True, slots=True)
class AuditNames:
    """The current names of users and profiles by id; a deleted one has none."""

    users: Mapping[int, str] = field(default_factory=dict)
    profiles: Mapping[int, str] = field(default_factory=dict)

    def user(self, user_id: int | None) -> str:
        """Return the name of a user; the number of a deleted one, «—» for None."""
        return _name(self.users, user_id, "conta")

    def profile(self, mentorado_id: int | None) -> str:
        """Return the name of a profile; the number of a deleted one, «—» for None."""
        return _name(self.profiles, mentorado_id, "perfil")


def read_events(
    session: Session, wanted: AuditFilter, *, before_id: int | None = None, limit: int
) -> list[AuditEvent]:
    """Return the newest events of a filter first, before an id."""
    found = select(AuditEvent).where(*wanted.conditions()).order_by(AuditEvent.id.desc())
    if before_id is not None:
        found = found.where(AuditEvent.id < before_id)
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


def _name(names: Mapping[int, str], number: int | None, kind: str) -> str:
    if number is None:
        return "—"
    return names.get(number, f"{kind} nº {number}")
