"""Add the index of users by when their identity was last asked for or completed.

It serves the sweep, which asks again about those first whose identity is the oldest. An identity
that is made older, or incomplete, ends the cached contexts of its user: they carry when to ask
again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"

NAME = "users_refresh_idx"
TRIGGER = """
CREATE TRIGGER context_version_on_age BEFORE UPDATE ON users FOR EACH ROW
    WHEN (OLD.identity_completed_at > coalesce(NEW.identity_completed_at, '-infinity')
       OR OLD.identity_asked_at > coalesce(NEW.identity_asked_at, '-infinity'))
    EXECUTE FUNCTION increment_context_version()
"""


def upgrade() -> None:
    op.execute(TRIGGER)
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
    op.execute("DROP TRIGGER context_version_on_age ON users")
