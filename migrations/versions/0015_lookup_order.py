"""Add the time of a user's last unanswered lookup, so that the sweep looks up all users in turn.

The index has the sweep's order: first users without a lookup, newest first, then those whose lookup
is the oldest.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

NAME = "users_incomplete_idx"
INCOMPLETE = sa.text("identity_completed_at IS NULL")


def upgrade() -> None:
    op.add_column("users", sa.Column("identity_asked_at", sa.DateTime(timezone=True)))
    op.drop_index(NAME, "users")
    op.create_index(
        NAME,
        "users",
        [sa.text("identity_asked_at NULLS FIRST"), sa.text("id DESC")],
        postgresql_where=INCOMPLETE,
    )


def downgrade() -> None:
    op.drop_index(NAME, "users")
    op.create_index(NAME, "users", ["id"], postgresql_where=INCOMPLETE)
    op.drop_column("users", "identity_asked_at")
