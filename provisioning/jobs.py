"""The life of an admin's job in the database: asked for once, held by one process, resumed.

1. `add` inserts the job under the key of the form that asks for it, so that a form acts once.
2. `claim` gives the job to a process, which keeps it by its heartbeat; the job of a process that
   has died is claimed by another one.
3. Each batch locks the job (`hold`), does its work and notes its progress in one transaction. A
   process that is killed leaves nothing half done, and the next one goes on behind the last batch.
4. `finish` closes the job and deletes its content.

Leases are compared on the database's clock, because the hosts' own may disagree.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, delete, exists, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased, undefer

from models import AdminJob
from models.admin_job import JobKind, JobStatus
from provisioning.audit import Source

LEASE = timedelta(seconds=15)  # without a heartbeat for so long, the owner counts as dead
UNCONFIRMED_KEPT = timedelta(days=1)  # the content of a dry run that was not confirmed
KEPT = timedelta(days=30)
# For how long a batch waits for a row that another program holds; then it is split, to go on
# without that row. Far below the lease.
SHORT_LOCK_WAIT = select(func.set_config("lock_timeout", "1s", text("true")))


class UnknownJobError(Exception):
    """There is no job of that id."""


class KeyReusedError(Exception):
    """The key of a form came with another request than before; nothing was done."""


class NotNowError(Exception):
    """The job has to wait for another one; it is to be tried again later."""


class LeaseLostError(Exception):
    """The job was given to another process; its former owner must stop."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What an admin asks for; `key` is that of the form, which becomes the id of the job."""

    key: uuid.UUID
    kind: JobKind
    source: Source
    options: Mapping[str, Any] = field(default_factory=dict)
    content: str | None = None
    dry_run: bool = False

    @property
    def digest(self) -> str:
        """The same for the same request, independent of the admin and the reason."""
        asked = json.dumps([self.kind, self.options], sort_keys=True)
        return hashlib.sha256(f"{asked}\n{self.content or ''}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Step:
    """What a batch has done: the Clerk ids of users whose context it changed."""

    clerk_ids: list[str]
    is_last: bool


def add(session: Session, wanted: JobRequest) -> AdminJob:
    """Queue a job; the second submit of a form returns the job of the first.

    A submit at the same time waits here for the other's commit. Raises KeyReusedError where the key
    belongs to another request.
    """
    digest = wanted.digest
    values = {
        "kind": wanted.kind,
        "status": JobStatus.QUEUED,
        "dry_run": wanted.dry_run,
        "digest": digest,
        "options": wanted.options,
        "content": wanted.content,
        "requested_by": wanted.source.actor_id,
        "reason": wanted.source.reason,
        "request_id": wanted.source.request_id,
    }
    added = insert(AdminJob).values(id=wanted.key, **values).on_conflict_do_nothing()
    session.execute(added)
    job = session.get_one(AdminJob, wanted.key)
    if job.digest != digest:
        raise KeyReusedError
    return job


def confirm(session: Session, job_id: uuid.UUID, *, source: Source) -> AdminJob:
    """Turn a dry run that is over into the real job; one that is confirmed already stays as it is.

    Raises UnknownJobError, also where its content was deleted meanwhile.
    """
    ready = update(AdminJob).where(
        AdminJob.id == job_id,
        AdminJob.dry_run,
        AdminJob.status == JobStatus.SUCCEEDED,
        AdminJob.content.is_not(None),
    )
    session.execute(
        ready.execution_options(synchronize_session=False).values(
            dry_run=False,
            status=JobStatus.QUEUED,
            requested_by=source.actor_id,
            reason=source.reason,
            request_id=source.request_id,
            position=0,
            scanned=0,
            counts={},
            results=[],
            started_at=None,
            finished_at=None,
        )
    )
    return find(session, job_id)


def discard(session: Session, job_id: uuid.UUID) -> None:
    """Delete a dry run that is over, with its content."""
    over = (AdminJob.dry_run, AdminJob.status.in_((JobStatus.SUCCEEDED, JobStatus.FAILED)))
    session.execute(delete(AdminJob).where(AdminJob.id == job_id, *over))


def find(session: Session, job_id: uuid.UUID) -> AdminJob:
    """Return the job; raises UnknownJobError."""
    job = session.get(AdminJob, job_id, populate_existing=True)
    if job is None:
        raise UnknownJobError(f"there is no job {job_id}")
    return job


def claim(session: Session, *, owner: str, job_id: uuid.UUID | None = None) -> AdminJob | None:
    """Give the oldest job that waits, or whose owner has died, to `owner`; or the one of that id.

    Returns it with its content, None where there is none. A job that is in the middle of a batch is
    locked and passed over: its owner is alive. Of two jobs that set goals of all, one at a time is
    running; IntegrityError means that another process was faster.
    """
    other = aliased(AdminJob)
    is_kept_waiting = and_(
        AdminJob.kind == JobKind.GOALS,
        AdminJob.status == JobStatus.QUEUED,
        exists().where(other.kind == JobKind.GOALS, other.status == JobStatus.RUNNING),
    )
    is_dead = and_(
        AdminJob.status == JobStatus.RUNNING,
        or_(AdminJob.heartbeat_at.is_(None), AdminJob.heartbeat_at < func.now() - LEASE),
    )
    free = select(AdminJob.id).where(or_(AdminJob.status == JobStatus.QUEUED, is_dead))
    if job_id is not None:
        free = free.where(AdminJob.id == job_id)
    first = free.where(~is_kept_waiting).order_by(AdminJob.created_at).limit(1)
    claimed = session.scalars(
        update(AdminJob)
        .execution_options(synchronize_session=False)
        .where(AdminJob.id == first.with_for_update(skip_locked=True).scalar_subquery())
        .values(
            status=JobStatus.RUNNING,
            owner=owner,
            started_at=func.coalesce(AdminJob.started_at, func.now()),
            heartbeat_at=func.now(),
        )
        .returning(AdminJob.id)
    ).one_or_none()
    if claimed is None:
        return None
    with_content = [undefer(AdminJob.content)]
    return session.get_one(AdminJob, claimed, options=with_content, populate_existing=True)


def hold(session: Session, job_id: uuid.UUID, *, owner: str) -> AdminJob:
    """Lock the job for a batch and renew its lease.

    Raises LeaseLostError where it is no longer the owner's.
    """
    ours = select(AdminJob).where(
        AdminJob.id == job_id, AdminJob.owner == owner, AdminJob.status == JobStatus.RUNNING
    )
    job = session.scalars(ours.with_for_update(key_share=True)).one_or_none()
    if job is None:
        raise LeaseLostError(f"job {job_id} belongs to another process")
    job.heartbeat_at = func.now()  # the database's clock
    return job


def release(session: Session, job_id: uuid.UUID, *, owner: str) -> None:
    """Give the job back to the queue, for another process to go on with at once."""
    job = hold(session, job_id, owner=owner)
    job.status, job.owner, job.heartbeat_at = JobStatus.QUEUED, None, None


def finish(job: AdminJob, *, error: str | None = None) -> None:
    """Close a job that is held; its content is deleted unless it still has to be confirmed."""
    job.status = JobStatus.FAILED if error else JobStatus.SUCCEEDED
    job.finished_at, job.error = func.now(), error
    if error or not job.dry_run:
        job.content = None


def delete_old(session: Session, now: datetime) -> None:
    """Delete the dry runs that were not confirmed for a day, and every job after thirty days."""
    over = AdminJob.status.in_((JobStatus.SUCCEEDED, JobStatus.FAILED))
    is_old = or_(
        AdminJob.created_at < now - KEPT,
        and_(AdminJob.dry_run, AdminJob.created_at < now - UNCONFIRMED_KEPT),
    )
    session.execute(delete(AdminJob).where(over, is_old))


def source_of(job: AdminJob) -> Source:
    """Who has asked for the job, as the audit log names them."""
    return Source("admin", job.request_id, actor_id=job.requested_by, reason=job.reason)
