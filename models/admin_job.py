"""admin_jobs: long tasks of admins that run in batches, such as the import of a list."""

import enum
import uuid
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Model
from models.columns import Count, CreatedAt, Flag, Time


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


class AdminJob(Model):
    """One job. Its id is the idempotency key of the form that created it."""

    __tablename__ = "admin_jobs"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    status: Mapped[str]
    # A dry run of an import shows what it would do and waits for a confirmation.
    dry_run: Mapped[Flag]
    # Of the request, to tell a second submit of a form from another request with the same key.
    digest: Mapped[str]
    options: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    # The list as it was sent; deleted when the job ends, because it contains names and addresses.
    content: Mapped[str | None] = mapped_column(deferred=True)
    requested_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    reason: Mapped[str | None]
    request_id: Mapped[str | None]
    owner: Mapped[str | None]
    total: Mapped[Count]
    scanned: Mapped[Count]
    # The start of the next batch: the index of a line, or the id of the last profile.
    position: Mapped[Count]
    counts: Mapped[dict[str, int]] = mapped_column(JSONB, server_default=text("'{}'"))
    # Result lines for the page; without names and addresses, unless the job is a dry run.
    results: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    # The lines that were not registered, with all their texts, for a download; kept for a day.
    rejected: Mapped[list[dict[str, Any]] | None] = mapped_column(
        JSONB(none_as_null=True), deferred=True
    )
    created_at: Mapped[CreatedAt]
    started_at: Mapped[Time | None]
    heartbeat_at: Mapped[Time | None]
    finished_at: Mapped[Time | None]
    error: Mapped[str | None]

    __table_args__ = (
        CheckConstraint("kind IN ('import', 'goals')", name="kind"),
        CheckConstraint("status IN ('queued', 'running', 'succeeded', 'failed')", name="status"),
        Index(
            "admin_jobs_active_idx",
            "created_at",
            postgresql_where=text("status IN ('queued', 'running')"),
        ),
        # Two goal jobs at once would leave profiles with a mixture of both.
        Index(
            "admin_jobs_running_goals_idx",
            text("(true)"),
            unique=True,
            postgresql_where=text("kind = 'goals' AND status = 'running'"),
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
