"""Admin changes in two steps: a preview that is rolled back, then a confirmation bound to it."""

import enum
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.database import rolled_back
from models import AuditEvent, Mentorado
from provisioning.audit import Source
from provisioning.errors import Conflict, ConflictError
from provisioning.merge import MergeConflict
from provisioning.references import count_references
from provisioning.user_lists import find_user

Fact = str | int | bool | None
Snapshot = dict[str, Fact]

SHOWN_COLUMNS = (
    *("user_id", "nome_completo", "email", "foto_url", "turma", "ativo", "meta_faturamento"),
    *("meta_leads", "meta_procedimentos", "meta_posts", "meta_stories"),
)
RECENT_EVENTS = 10_000  # searched for a confirmation; far more than pass until a second click


class SubjectKind(enum.StrEnum):
    """What a change is about; the values are those of the console's URLs."""

    USER = "pessoa"
    PROFILE = "mentorado"


class Subject(NamedTuple):
    """A user or a profile that a change is about."""

    kind: SubjectKind
    id: int


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """The Clerk ids of the affected users, and the rows that conflicted in a merge."""

    clerk_ids: Sequence[str]
    conflicts: Sequence[MergeConflict] = ()


@dataclass(frozen=True, slots=True)
class ChangeRequest:
    """A change that an admin may confirm: its name and values, its subjects, and the change."""

    name: str
    values: Mapping[str, object]
    subjects: Sequence[Subject]
    apply: Callable[[Session, Source], ChangeResult]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a change would do, and the digest that its confirmation must have."""

    before: dict[Subject, Snapshot]
    after: dict[Subject, Snapshot]
    conflicts: Sequence[MergeConflict]
    digest: str


def preview(session: Session, request: ChangeRequest, *, source: Source) -> Preview:
    """Apply the change in a savepoint and roll it back; raises what the change raises."""
    with rolled_back(session):
        result, _ = _apply(session, request, source)
    return result


def confirm(
    session: Session, request: ChangeRequest, *, digest: str, source: Source
) -> ChangeResult:
    """Apply the previewed change once.

    The digest covers the change, its values, the admin, the state before and after, and the last
    audit event about it: it confirms nothing else, and only once. A second click on the same button
    changes nothing. Raises ConflictError where the result differs from the preview, and what the
    change raises.
    """
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(digest, 0))))
    if _is_confirmed(session, digest):
        return ChangeResult([])
    with session.begin_nested():
        previewed, result = _apply(session, request, replace(source, confirmation=digest))
        if previewed.digest != digest:
            raise ConflictError(Conflict.PREVIEW_OUTDATED)
    return result


def _apply(
    session: Session, request: ChangeRequest, source: Source
) -> tuple[Preview, ChangeResult]:
    """Apply the change; return its preview and its result."""
    kind, number = request.subjects[0]
    column = AuditEvent.user_id if kind is SubjectKind.USER else AuditEvent.mentorado_id
    last_event = session.scalar(select(func.max(AuditEvent.id)).where(column == number)) or 0
    before = {subject: _snapshot(session, subject) for subject in request.subjects}
    result = request.apply(session, source)
    session.flush()  # before the second snapshot
    after = {subject: _snapshot(session, subject) for subject in request.subjects}
    states = [list(before.items()), list(after.items())]
    content = [request.name, dict(request.values), source.actor_id, last_event, states]
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)
    digest = blake2b(text.encode(), digest_size=12).hexdigest()
    return Preview(before, after, result.conflicts, digest), result


def _snapshot(session: Session, subject: Subject) -> Snapshot:
    """Return the facts about a subject, of a profile also its rows by table; empty without it."""
    if subject.kind is SubjectKind.USER:
        row = find_user(session, subject.id)
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
    profile = session.get(Mentorado, subject.id, populate_existing=True)
    if profile is None:
        return {}
    values = {column: getattr(profile, column) for column in SHOWN_COLUMNS}
    shown = {name: v if isinstance(v, int | None) else str(v) for name, v in values.items()}
    return shown | count_references(session, profile.id)


def _is_confirmed(session: Session, digest: str) -> bool:
    newest = select(func.max(AuditEvent.id)).scalar_subquery()
    confirmed = select(AuditEvent.id).where(
        AuditEvent.id > newest - RECENT_EVENTS, AuditEvent.details["confirmation"].astext == digest
    )
    return session.scalars(confirmed.limit(1)).one_or_none() is not None
