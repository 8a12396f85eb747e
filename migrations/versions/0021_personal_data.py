"""Add the indexes for retention and erasure: deleted accounts, and audit events with texts."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"

INDEXES = (
    ("users_deleted_idx", "users", "deleted_at", "deleted_at IS NOT NULL"),
    (
        "audit_events_values_idx",
        "audit_events",
        "at",
        "details ?| array['before', 'after', 'email']",
    ),
    (
        "audit_events_reason_idx",
        "audit_events",
        "id",
        "details ?| array['reason', 'impersonator']",
    ),
)


def upgrade() -> None:
    for name, table, column, condition in INDEXES:
        op.create_index(name, table, [column], postgresql_where=sa.text(condition))


def downgrade() -> None:
    for name, table, _, _ in INDEXES:
        op.drop_index(name, table)
