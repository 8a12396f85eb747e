"""admin_jobs, sweep_runs, sweep_totals and provisioning_attempts: what runs in the background."""

import enum
import uuid
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Model
from models.columns import Count, CreatedAt, Flag, Time, partial_index

# The error class of a failed identity lookup: the provider's answer about this user cannot be used.
# The profile is not affected, so that such an attempt does not block the user.
UNUSABLE_ANSWER = "UnusableAnswerError"


class BackgroundRun:
    """What jobs and sweeps share: who has requested one, its process, lease and progress.

    A dry run shows what it would do; that of an import waits for a confirmation.
    """

    status: Mapped[str]
    dry_run: Mapped[Flag]
    requested_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    owner: Mapped[str | None]
    total: Mapped[Count]
    scanned: Mapped[Count]
    created_at: Mapped[CreatedAt]
    started_at: Mapped[Time | None]
    heartbeat_at: Mapped[Time | None]
    finished_at: Mapped[Time | None]
    error: Mapped[str | None]


class JobKind(enum.StrEnum):
    """The kinds of jobs."""

    IMPORT = "import"
    GOALS = "goals"


class JobStatus(enum.StrEnum):
    """The states of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class AdminJob(BackgroundRun, Model):
    """One job. Its id is the idempotency key of the form that created it."""

    __tablename__ = "admin_jobs"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    # Of the request, to tell a second submit of a form from another request with the same key.
    digest: Mapped[str]
    options: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    # The list as it was sent; deleted when the job ends, because it contains names and addresses.
    content: Mapped[str | None] = mapped_column(deferred=True)
    reason: Mapped[str | None]
    request_id: Mapped[str | None]
    # The start of the next batch: the index of a line, or the id of the last profile.
    position: Mapped[Count]
    counts: Mapped[dict[str, int]] = mapped_column(JSONB, server_default=text("'{}'"))
    # Result lines for the page; without names and addresses, unless the job is a dry run.
    results: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    # The lines that were not registered, with all their texts, for a download; kept for a day.
    rejected: Mapped[list[dict[str, Any]] | None] = mapped_column(
        JSONB(none_as_null=True), deferred=True
    )

    __table_args__ = (
        CheckConstraint("kind IN ('import', 'goals')", name="kind"),
        CheckConstraint("status IN ('queued', 'running', 'succeeded', 'failed')", name="status"),
        partial_index(
            "admin_jobs_active_idx", "created_at", where="status IN ('queued', 'running')"
        ),
        # Two goal jobs at once would leave profiles with a mixture of both.
        partial_index(
            "admin_jobs_running_goals_idx",
            text("(true)"),
            unique=True,
            where="kind = 'goals' AND status = 'running'",
        ),
        Index("admin_jobs_created_at_idx", "created_at"),
    )

    @property
    def is_active(self) -> bool:
        """Whether the job is queued or running."""
        return self.status in (JobStatus.QUEUED, JobStatus.RUNNING)

    @property
    def is_preview(self) -> bool:
        """Whether the job is a finished dry run, which may be confirmed."""
        return self.dry_run and self.status == JobStatus.SUCCEEDED


class SweepStatus(enum.StrEnum):
    """The states of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ABANDONED = "abandoned"


class SweepRun(BackgroundRun, Model):
    """One run; a partial unique index allows only one queued or running at a time."""

    __tablename__ = "sweep_runs"

    id: Mapped[int] = mapped_column(primary_key=True)
    trigger: Mapped[str]
    created: Mapped[Count]
    linked: Mapped[Count]
    existing: Mapped[Count]
    failed: Mapped[Count]
    ambiguous: Mapped[Count]
    # What a dry run would do for the first users it found: [{"user_id", "outcome"}].
    sample: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)

    __table_args__ = (
        CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed', 'abandoned')", name="status"
        ),
        CheckConstraint("trigger IN ('clock', 'admin', 'cli')", name="trigger"),
        partial_index(
            "sweep_runs_active_idx",
            text("(true)"),
            unique=True,
            where="status IN ('queued', 'running')",
        ),
    )


class SweepTotal(Model):
    """The number of runs with a trigger and a status, and the profiles that they ensured."""

    __tablename__ = "sweep_totals"

    trigger: Mapped[str] = mapped_column(Text, primary_key=True)
    status: Mapped[str] = mapped_column(Text, primary_key=True)
    runs: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    repaired: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class AttemptState(enum.StrEnum):
    """Whether background jobs still retry the attempt, or an admin must act (dead letter)."""

    PENDING = "pending"
    DEAD = "dead"


class ProvisioningAttempt(Model):
    """The last failure of one user, kept until the user has a profile.

    `attempts` counts background retries; 0 means that only the user's own request has failed. The
    key is the Clerk id without a foreign key: the row must be writable when the user's row is not.
    """

    __tablename__ = "provisioning_attempts"

    id: Mapped[int] = mapped_column(primary_key=True)
    clerk_id: Mapped[str] = mapped_column(String(64))
    state: Mapped[str]
    attempts: Mapped[int]
    next_attempt_at: Mapped[Time]
    error_class: Mapped[str]
    error_code: Mapped[str | None]
    request_id: Mapped[str | None]
    first_failed_at: Mapped[Time]
    last_failed_at: Mapped[Time]

    __table_args__ = (
        UniqueConstraint("clerk_id"),
        CheckConstraint("state IN ('pending', 'dead')", name="state"),
        CheckConstraint("attempts >= 0", name="attempts"),
        Index("provisioning_attempts_state_next_attempt_at_idx", "state", "next_attempt_at"),
        Index("provisioning_attempts_short_code_idx", text('"left"(request_id, 8)')),
    )
