"""sweep_runs and sweep_totals: runs of the sweep, and their counts after old runs are deleted."""

import enum
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Model
from models.columns import Count, CreatedAt, Flag, Time


class SweepStatus(enum.StrEnum):
    """The states of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ABANDONED = "abandoned"


class SweepRun(Model):
    """One run; a partial unique index allows only one queued or running at a time."""

    __tablename__ = "sweep_runs"

    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str]
    trigger: Mapped[str]
    dry_run: Mapped[Flag]
    requested_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    owner: Mapped[str | None]
    total: Mapped[Count]
    scanned: Mapped[Count]
    created: Mapped[Count]
    linked: Mapped[Count]
    existing: Mapped[Count]
    failed: Mapped[Count]
    ambiguous: Mapped[Count]
    created_at: Mapped[CreatedAt]
    started_at: Mapped[Time | None]
    heartbeat_at: Mapped[Time | None]
    finished_at: Mapped[Time | None]
    error: Mapped[str | None]
    # What a dry run would do for the first users it found: [{"user_id", "outcome"}].
    sample: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)

    __table_args__ = (
        CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed', 'abandoned')", name="status"
        ),
        CheckConstraint("trigger IN ('clock', 'admin', 'cli')", name="trigger"),
        Index(
            "sweep_runs_active_idx",
            text("(true)"),
            unique=True,
            postgresql_where=text("status IN ('queued', 'running')"),
        ),
    )


class SweepTotal(Model):
    """The number of runs with a trigger and a status, and the profiles that they provided."""

    __tablename__ = "sweep_totals"

    trigger: Mapped[str] = mapped_column(Text, primary_key=True)
    status: Mapped[str] = mapped_column(Text, primary_key=True)
    runs: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    repaired: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
