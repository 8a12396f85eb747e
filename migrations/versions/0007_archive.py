"""Create the archive of deleted rows, and an index of audit events by request id."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "archived_rows",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("table_name", sa.Text, nullable=False),
        sa.Column("content", postgresql.JSONB, nullable=False),
        sa.Column("mentorado_id", sa.Integer, nullable=False),
        sa.Column("kept_mentorado_id", sa.Integer, nullable=False),
        sa.Column("request_id", sa.Text),
    )
    for column in ("mentorado_id", "kept_mentorado_id"):
        op.create_index(f"archived_rows_{column}_idx", "archived_rows", [column])
    op.create_index("audit_events_request_id_idx", "audit_events", ["request_id"])
    op.create_index("audit_events_at_idx", "audit_events", ["at"], postgresql_using="brin")
    op.create_index("mentorados_created_at_idx", "mentorados", ["created_at"])


def downgrade() -> None:
    op.drop_index("mentorados_created_at_idx", "mentorados")
    op.drop_index("audit_events_at_idx", "audit_events")
    op.drop_index("audit_events_request_id_idx", "audit_events")
    op.drop_table("archived_rows")
