"""When a user was last asked about in vain, so that the sweep asks about all of them in turn.

The index serves the sweep's order: users that nobody has asked about yet first, the newest of them
at the front, then those that have waited longest.
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
