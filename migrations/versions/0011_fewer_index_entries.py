"""Exclude audit events without request, such as those of the sweep, from the request id index."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

NAME = "audit_events_request_id_idx"


def upgrade() -> None:
    op.drop_index(NAME, "audit_events")
    op.create_index(
        NAME,
        "audit_events",
        ["request_id"],
        postgresql_where=sa.text("request_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index(NAME, "audit_events")
    op.create_index(NAME, "audit_events", ["request_id"])
