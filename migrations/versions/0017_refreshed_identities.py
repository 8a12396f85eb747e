"""Add the index of users by the time when their identity was last looked up or completed.

The sweep uses it to refresh the oldest identities first. An identity that becomes older or
incomplete invalidates the cached contexts of its user, because they contain the time of the next
lookup.
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
