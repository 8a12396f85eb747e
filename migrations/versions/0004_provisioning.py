"""Create the tables of provisioning: failed attempts, sweep runs, audit events, settings."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"

COUNTS = ("total", "scanned", "created", "linked", "existing", "failed", "ambiguous")


def _time(name: str, *, required: bool = False, default: bool = False) -> sa.Column:
    now = sa.func.now() if default else None
    nullable = not (required or default)
    return sa.Column(name, sa.DateTime(timezone=True), server_default=now, nullable=nullable)


def _person(name: str) -> sa.Column:
    return sa.Column(name, sa.Integer, sa.ForeignKey("users.id", ondelete="SET NULL"))


def upgrade() -> None:
    _create_attempts()
    _create_sweep_runs()
    _create_audit_events()
    op.create_table(
        "app_settings",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", postgresql.JSONB, nullable=False),
        _time("updated_at", default=True),
        _person("updated_by"),
    )


def _create_attempts() -> None:
    op.create_table(
        "provisioning_attempts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("clerk_id", sa.String(64), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        _time("next_attempt_at", required=True),
        sa.Column("error_class", sa.Text, nullable=False),
        sa.Column("error_code", sa.Text),
        sa.Column("request_id", sa.Text),
        _time("first_failed_at", required=True),
        _time("last_failed_at", required=True),
        sa.UniqueConstraint("clerk_id"),
        sa.CheckConstraint("state IN ('pending', 'dead')", name="state"),
        sa.CheckConstraint("attempts > 0", name="attempts"),
    )
    op.create_index(
        "provisioning_attempts_state_next_attempt_at_idx",
        "provisioning_attempts",
        ["state", "next_attempt_at"],
    )


def _create_sweep_runs() -> None:
    statuses = "'queued', 'running', 'succeeded', 'failed', 'abandoned'"
    zero = sa.text("0")
    op.create_table(
        "sweep_runs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("trigger", sa.Text, nullable=False),
        sa.Column("dry_run", sa.Boolean, server_default=sa.text("false"), nullable=False),
        _person("requested_by"),
        sa.Column("owner", sa.Text),
        *(sa.Column(name, sa.Integer, server_default=zero, nullable=False) for name in COUNTS),
        _time("created_at", default=True),
        _time("started_at"),
        _time("heartbeat_at"),
        _time("finished_at"),
        sa.Column("error", sa.Text),
        sa.CheckConstraint(f"status IN ({statuses})", name="status"),
        sa.CheckConstraint("trigger IN ('clock', 'admin', 'cli')", name="trigger"),
    )
    op.create_index(
        "sweep_runs_active_idx",
        "sweep_runs",
        [sa.text("(true)")],
        unique=True,
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )


def _create_audit_events() -> None:
    op.create_table(
        "audit_events",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        _time("at", default=True),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("entry", sa.Text, nullable=False),
        sa.Column("actor_id", sa.Integer),
        sa.Column("user_id", sa.Integer),
        sa.Column("mentorado_id", sa.Integer),
        sa.Column("request_id", sa.Text),
        sa.Column("details", postgresql.JSONB),
    )
    op.create_index("audit_events_user_id_idx", "audit_events", ["user_id", "id"])
    op.create_index("audit_events_mentorado_id_idx", "audit_events", ["mentorado_id", "id"])


def downgrade() -> None:
    for table in ("app_settings", "audit_events", "sweep_runs", "provisioning_attempts"):
        op.drop_table(table)
