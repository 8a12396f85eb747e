"""A change by hand in two steps: done and rolled back to be shown, then done as it was shown."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import AuditEvent, Mentorado
from provisioning.admin_actions import Conflict, ConflictError
from provisioning.audit import Source
from provisioning.queries import ListedUser, find_user
from provisioning.references import count_references

Fact = str | int | bool | None
Snapshot = dict[str, Fact]

PROFILE_COLUMNS = (
    *("user_id", "nome_completo", "email", "foto_url", "turma", "ativo"),
    *("meta_faturamento", "meta_leads", "meta_procedimentos", "meta_posts", "meta_stories"),
)


def user_snapshot(session: Session, user_id: int) -> Snapshot:
    """Where a person stands; empty for an id of nobody."""
    row = find_user(session, user_id)
    return {} if row is None else _of_person(row)


def profile_snapshot(session: Session, mentorado_id: int) -> Snapshot:
    """What a profile holds, and how many rows of which tables; empty for one that is not there."""
    profile = session.get(Mentorado, mentorado_id, populate_existing=True)
    if profile is None:
        return {}
    facts: Snapshot = {}
    for column in PROFILE_COLUMNS:
        value = getattr(profile, column)
        facts[column] = value if isinstance(value, int | None) else str(value)
    return facts | count_references(session, mentorado_id)


def _of_person(row: ListedUser) -> Snapshot:
    return {
        "state": row.state.value,
        "role": row.user.role.value,
        "blocked": row.user.blocked_at is not None,
        "mentorado_id": row.mentorado.id if row.mentorado else None,
        "attempt": row.attempt.state if row.attempt else None,
    }


Change = Callable[[Session, Source], list[str]]  # returns the Clerk ids of those it concerns
SnapshotFunction = Callable[[Session], dict[str, Snapshot]]  # by what they are about

RECENT_EVENTS = 10_000  # among which a confirmation is looked for; far more than a second click


@dataclass(frozen=True, slots=True)
class ChangeRequest:
    """A change that an admin may confirm: what is done, to what, with which values, and how to
    look at it. `user_id` and `mentorado_id` say whose audit events count as news about it.
    """

    name: str
    values: Mapping[str, object]
    change: Change
    look: SnapshotFunction
    user_id: int | None = None
    mentorado_id: int | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """What is there, what would be, and the digest that binds a confirmation to both."""

    before: dict[str, Snapshot]
    after: dict[str, Snapshot]
    digest: str


def preview(session: Session, proposal: ChangeRequest, *, source: Source) -> Preview:
    """Do the change, look at it, and roll it back. Raises what the change raises."""
    with session.begin_nested() as savepoint:
        shown, _ = _do(session, proposal, source)
        savepoint.rollback()
    return shown


def confirm(session: Session, proposal: ChangeRequest, *, digest: str, source: Source) -> list[str]:
    """Do what was shown, once, or nothing; returns the Clerk ids of those it concerns.

    The digest stands for the change, its values, the admin, the state before and after, and the
    last audit event about it: it confirms nothing else, and no second time. A second click on the
    same button has nothing to do and returns []. Raises ConflictError where it would come to
    something else than was shown, and what the change raises.
    """
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(digest, 0))))
    if _is_done(session, digest):
        return []
    with session.begin_nested():
        shown, concerned = _do(session, proposal, replace(source, confirmation=digest))
        if shown.digest != digest:
            raise ConflictError(Conflict.NOT_AS_SHOWN)
    return concerned


def _do(session: Session, proposal: ChangeRequest, source: Source) -> tuple[Preview, list[str]]:
    before, position = proposal.look(session), _last_event(session, proposal)
    concerned = proposal.change(session, source)
    session.flush()  # so that the look sees it
    after = proposal.look(session)
    bound = [proposal.name, dict(proposal.values), source.actor_id, position, before, after]
    content = json.dumps(bound, sort_keys=True, ensure_ascii=False, default=str)
    return Preview(before, after, blake2b(content.encode(), digest_size=12).hexdigest()), concerned


def _last_event(session: Session, proposal: ChangeRequest) -> int:
    """The id of the last audit event about the user or the profile; 0 for none."""
    if proposal.user_id is not None:
        about = AuditEvent.user_id == proposal.user_id
    else:
        about = AuditEvent.mentorado_id == proposal.mentorado_id
    return session.scalar(select(func.max(AuditEvent.id)).where(about)) or 0


def _is_done(session: Session, digest: str) -> bool:
    newest = select(func.max(AuditEvent.id)).scalar_subquery()
    done = select(AuditEvent.id).where(
        AuditEvent.id > newest - RECENT_EVENTS,
        AuditEvent.details["confirmation"].astext == digest,
    )
    return session.scalars(done.limit(1)).one_or_none() is not None
