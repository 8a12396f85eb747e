"""Add the index of users by when their identity was last asked for or completed.

It serves the sweep, which asks again about those first whose identity is the oldest.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0015"

NAME = "users_refresh_idx"


def upgrade() -> None:
    op.create_index(
        NAME,
        "users",
        [sa.text("greatest(identity_asked_at, identity_completed_at)"), "id"],
        postgresql_where=sa.text(
            "identity_completed_at IS NOT NULL AND deleted_at IS NULL AND blocked_at IS NULL"
        ),
    )


def downgrade() -> None:
    op.drop_index(NAME, "users")
