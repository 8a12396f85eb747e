"""Create admin jobs: imports and goals for all, run in batches that can be resumed."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"


def _time(name: str, *, default: bool = False) -> sa.Column:
    now = sa.func.now() if default else None
    return sa.Column(name, sa.DateTime(timezone=True), server_default=now, nullable=not default)


def _count(name: str) -> sa.Column:
    return sa.Column(name, sa.Integer, server_default=sa.text("0"), nullable=False)


def _json(name: str, empty: str) -> sa.Column:
    return sa.Column(name, postgresql.JSONB, server_default=sa.text(empty), nullable=False)


def upgrade() -> None:
    op.create_table(
        "admin_jobs",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("dry_run", sa.Boolean, server_default=sa.text("false"), nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        _json("options", "'{}'"),
        sa.Column("content", sa.Text),
        sa.Column("requested_by", sa.Integer, sa.ForeignKey("users.id", ondelete="SET NULL")),
        sa.Column("reason", sa.Text),
        sa.Column("request_id", sa.Text),
        sa.Column("owner", sa.Text),
        *map(_count, ("total", "scanned", "position")),
        _json("counts", "'{}'"),
        _json("results", "'[]'"),
        _time("created_at", default=True),
        *map(_time, ("started_at", "heartbeat_at", "finished_at")),
        sa.Column("error", sa.Text),
        sa.CheckConstraint("kind IN ('import', 'goals')", name="kind"),
        sa.CheckConstraint("status IN ('queued', 'running', 'succeeded', 'failed')", name="status"),
    )
    op.create_index(
        "admin_jobs_active_idx",
        "admin_jobs",
        ["created_at"],
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )
    op.create_index(
        "admin_jobs_running_goals_idx",
        "admin_jobs",
        [sa.text("(true)")],
        unique=True,
        postgresql_where=sa.text("kind = 'goals' AND status = 'running'"),
    )
    op.create_index("admin_jobs_created_at_idx", "admin_jobs", ["created_at"])


def downgrade() -> None:
    op.drop_table("admin_jobs")
