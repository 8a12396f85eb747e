"""Admin jobs in the database: queued once, run by one process at a time, resumed after a crash.

1. `add` inserts the job under the idempotency key of its form, so that a form acts once.
2. `claim` gives the job to a process, which keeps it by a heartbeat. Another process claims the job
   of one that has died.
3. Each batch locks the job (`lock_and_extend`), does its work and stores its progress in one
   transaction. A killed process leaves nothing half done; the next one continues after the last
   batch.
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

from sqlalchemy import and_, delete, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, undefer

from models import AdminJob
from models.background import JobKind, JobStatus
from provisioning.audit import Source

LEASE = timedelta(seconds=15)  # after so long without a heartbeat, the owner counts as dead
IS_FINISHED = AdminJob.status.in_((JobStatus.SUCCEEDED, JobStatus.FAILED))
KEPT = timedelta(days=30)
NAMES_KEPT = timedelta(days=1)  # of unconfirmed dry runs, and of lines that were not registered
# How long a batch waits for a row that another program has locked. Then it is split, to continue
# without that row. Far below the lease.
SHORT_LOCK_WAIT = select(func.set_config("lock_timeout", "1s", text("true")))
CLAIM = text("""
    UPDATE admin_jobs SET status = 'running', owner = :owner, heartbeat_at = now(),
           started_at = coalesce(started_at, now())
     WHERE id = (
           SELECT id FROM admin_jobs
            WHERE (status = 'queued' OR (
                   status = 'running' AND (heartbeat_at IS NULL OR heartbeat_at < now() - :lease)))
              AND (CAST(:job_id AS uuid) IS NULL OR id = :job_id)
              AND NOT (kind = 'goals' AND status = 'queued' AND EXISTS (
                       SELECT FROM admin_jobs WHERE kind = 'goals' AND status = 'running'))
            ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING id
""")


class KeyReusedError(Exception):
    """The idempotency key belongs to a different request; nothing was done."""


class JobMustWaitError(Exception):
    """The job has to wait for another one and is to be retried later."""


class JobLeaseLostError(Exception):
    """Another process has claimed the job; this one must stop."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A job that an admin requests; `key`, its form's idempotency key, becomes its id."""

    key: uuid.UUID
    kind: JobKind
    source: Source
    options: Mapping[str, Any] = field(default_factory=dict)
    content: str | None = None
    dry_run: bool = False

    @property
    def digest(self) -> str:
        """A hash of the request without admin and reason."""
        request = json.dumps([self.kind, self.options], sort_keys=True)
        return hashlib.sha256(f"{request}\n{self.content or ''}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The result of a batch: the Clerk ids of users whose context it changed."""

    clerk_ids: list[str]
    is_last: bool


def add(session: Session, request: JobRequest) -> AdminJob:
    """Queue a job and return it; a second submit of the form returns the first job.

    A concurrent submit waits here for the other's commit. Raises KeyReusedError where the key
    belongs to another request.
    """
    source = request.source
    values = {
        "kind": request.kind,
        "status": JobStatus.QUEUED,
        "dry_run": request.dry_run,
        "digest": request.digest,
        "options": request.options,
        "content": request.content,
        "requested_by": source.actor_id,
        "reason": source.reason,
        "request_id": source.request_id,
    }
    session.execute(insert(AdminJob).values(id=request.key, **values).on_conflict_do_nothing())
    job = session.get_one(AdminJob, request.key)
    if job.digest != values["digest"]:
        raise KeyReusedError
    return job


def confirm(session: Session, job_id: uuid.UUID, *, source: Source) -> AdminJob:
    """Queue a finished dry run as the real job, once; raises NoResultFound if it was deleted."""
    job = session.get_one(AdminJob, job_id, with_for_update=True, populate_existing=True)
    if job.is_preview:
        job.dry_run, job.status = False, JobStatus.QUEUED
        job.requested_by, job.reason = source.actor_id, source.reason
        job.request_id = source.request_id
        job.position = job.scanned = 0
        job.counts, job.results, job.rejected = {}, [], None
        job.started_at = job.finished_at = None
    return job


def discard(session: Session, job_id: uuid.UUID) -> None:
    """Delete a finished dry run with its content."""
    session.execute(delete(AdminJob).where(AdminJob.id == job_id, AdminJob.dry_run, IS_FINISHED))


def find(session: Session, job_id: uuid.UUID) -> AdminJob:
    """Return the job; raises NoResultFound."""
    return session.get_one(AdminJob, job_id, populate_existing=True)


def claim(session: Session, *, owner: str, job_id: uuid.UUID | None = None) -> AdminJob | None:
    """Claim for `owner` the oldest job that is queued or whose owner has died, or the one of an id.

    Returns it with its content, or None. A job in the middle of a batch is locked and skipped: its
    owner is alive. Only one job that sets goals runs at a time; IntegrityError means that another
    process was faster.
    """
    parameters = {"owner": owner, "job_id": job_id, "lease": LEASE}
    claimed = session.scalars(CLAIM, parameters).one_or_none()
    if claimed is None:
        return None
    with_content = [undefer(AdminJob.content)]
    return session.get_one(AdminJob, claimed, options=with_content, populate_existing=True)


def lock_and_extend(session: Session, job_id: uuid.UUID, *, owner: str) -> AdminJob:
    """Lock the job for a batch and extend its lease; raises JobLeaseLostError."""
    owned = select(AdminJob).where(
        AdminJob.id == job_id, AdminJob.owner == owner, AdminJob.status == JobStatus.RUNNING
    )
    job = session.scalars(owned.with_for_update(key_share=True)).one_or_none()
    if job is None:
        raise JobLeaseLostError(f"job {job_id} belongs to another process")
    job.heartbeat_at = func.now()  # the database's clock
    return job


def release(session: Session, job_id: uuid.UUID, *, owner: str) -> None:
    """Return the job to the queue, so that another process can continue it at once."""
    job = lock_and_extend(session, job_id, owner=owner)
    job.status, job.owner, job.heartbeat_at = JobStatus.QUEUED, None, None


def finish(job: AdminJob, *, error: str | None = None) -> None:
    """Close a locked job; delete its content unless it still has to be confirmed."""
    job.status = JobStatus.FAILED if error else JobStatus.SUCCEEDED
    job.finished_at, job.error = func.now(), error
    if error or not job.dry_run:
        job.content = None


def delete_old(session: Session, now: datetime) -> None:
    """Delete jobs after thirty days; after one, unconfirmed dry runs and rejected lines."""
    is_unconfirmed = and_(AdminJob.dry_run, AdminJob.created_at < now - NAMES_KEPT)
    is_old = or_(AdminJob.created_at < now - KEPT, is_unconfirmed)
    session.execute(delete(AdminJob).where(IS_FINISHED, is_old))
    has_names = (AdminJob.rejected.is_not(None), AdminJob.created_at < now - NAMES_KEPT)
    session.execute(update(AdminJob).where(IS_FINISHED, *has_names).values(rejected=None))


def source_of(job: AdminJob) -> Source:
    """Return the source of the job's audit events: the admin who requested it."""
    return Source("admin", job.request_id, actor_id=job.requested_by, reason=job.reason)
