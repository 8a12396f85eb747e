"""Admin changes in two steps: a preview that is rolled back, then a confirmation bound to it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.database import rolled_back
from models import AuditEvent, Mentorado
from provisioning.admin_actions import Conflict, ConflictError
from provisioning.audit import Source
from provisioning.queries import find_user
from provisioning.references import count_references

Fact = str | int | bool | None
Snapshot = dict[str, Fact]

PROFILE_COLUMNS = (
    "user_id",
    "nome_completo",
    "email",
    "foto_url",
    "turma",
    "ativo",
    "meta_faturamento",
    "meta_leads",
    "meta_procedimentos",
    "meta_posts",
    "meta_stories",
)


def user_snapshot(session: Session, user_id: int) -> Snapshot:
    """Return the state of a user as facts; empty for an unknown id."""
    row = find_user(session, user_id)
    if row is None:
        return {}
    return {
        "name": row.user.name,
        "state": row.state.value,
        "role": row.user.role.value,
        "blocked": row.user.blocked_at is not None,
        "mentorado_id": row.mentorado.id if row.mentorado else None,
        "attempt": row.attempt.state if row.attempt else None,
    }


def profile_snapshot(session: Session, mentorado_id: int) -> Snapshot:
    """Return a profile's values and its number of rows by table; empty for an unknown id."""
    profile = session.get(Mentorado, mentorado_id, populate_existing=True)
    if profile is None:
        return {}
    facts: Snapshot = {}
    for column in PROFILE_COLUMNS:
        value = getattr(profile, column)
        facts[column] = value if isinstance(value, int | None) else str(value)
    return facts | count_references(session, mentorado_id)


Change = Callable[[Session, Source], list[str]]  # returns the Clerk ids of affected users
SnapshotFunction = Callable[[Session], dict[str, Snapshot]]  # by user or profile

RECENT_EVENTS = 10_000  # searched for a confirmation; far more than pass until a second click


@dataclass(frozen=True, slots=True)
class ChangeRequest:
    """A change that an admin may confirm: its name and values, the change, and the snapshots of it.

    The newest audit event about `user_id` or `mentorado_id` is part of the digest.
    """

    name: str
    values: Mapping[str, object]
    change: Change
    take_snapshots: SnapshotFunction
    user_id: int | None = None
    mentorado_id: int | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """The snapshots before and after a change, and the digest that a confirmation must have."""

    before: dict[str, Snapshot]
    after: dict[str, Snapshot]
    digest: str


def preview(session: Session, request: ChangeRequest, *, source: Source) -> Preview:
    """Apply the change in a savepoint, roll it back, and return the preview.

    Raises what the change raises.
    """
    with rolled_back(session):
        result, _ = _apply(session, request, source)
    return result


def confirm(session: Session, request: ChangeRequest, *, digest: str, source: Source) -> list[str]:
    """Apply the previewed change once; return the Clerk ids of affected users.

    The digest covers the change, its values, the admin, the state before and after, and the last
    audit event about it: it confirms nothing else, and only once. A second click on the same button
    returns []. Raises ConflictError where the result differs from the preview, and what the change
    raises.
    """
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(digest, 0))))
    if _is_confirmed(session, digest):
        return []
    with session.begin_nested():
        result, clerk_ids = _apply(session, request, replace(source, confirmation=digest))
        if result.digest != digest:
            raise ConflictError(Conflict.PREVIEW_OUTDATED)
    return clerk_ids


def _apply(session: Session, request: ChangeRequest, source: Source) -> tuple[Preview, list[str]]:
    """Apply the change; return its preview and the Clerk ids of affected users."""
    before, last_event = request.take_snapshots(session), _last_event(session, request)
    clerk_ids = request.change(session, source)
    session.flush()  # before the second snapshot
    after = request.take_snapshots(session)
    content = [request.name, dict(request.values), source.actor_id, last_event, before, after]
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)
    return Preview(before, after, blake2b(text.encode(), digest_size=12).hexdigest()), clerk_ids


def _last_event(session: Session, request: ChangeRequest) -> int:
    """Return the id of the last audit event about the user or the profile; 0 for none."""
    if request.user_id is not None:
        about = AuditEvent.user_id == request.user_id
    else:
        about = AuditEvent.mentorado_id == request.mentorado_id
    return session.scalar(select(func.max(AuditEvent.id)).where(about)) or 0


def _is_confirmed(session: Session, digest: str) -> bool:
    newest = select(func.max(AuditEvent.id)).scalar_subquery()
    confirmed = select(AuditEvent.id).where(
        AuditEvent.id > newest - RECENT_EVENTS,
        AuditEvent.details["confirmation"].astext == digest,
    )
    return session.scalars(confirmed.limit(1)).one_or_none() is not None
