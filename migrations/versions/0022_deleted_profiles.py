"""Keep rejected lines of an import for a download, and the owner of deleted profiles.

Archived rows belong to a user by a foreign key, so that they go with the user's row.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0022"
down_revision = "0021"

OWNER = """
ALTER TABLE archived_rows ADD COLUMN user_id integer;
ALTER TABLE archived_rows ADD CONSTRAINT archived_rows_user_id_fkey
    FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE NOT VALID;
ALTER TABLE archived_rows VALIDATE CONSTRAINT archived_rows_user_id_fkey;
CREATE INDEX archived_rows_user_id_idx ON archived_rows (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX archived_rows_deleted_idx ON archived_rows (at)
 WHERE reason IN ('delete', 'month_deleted');
"""


def upgrade() -> None:
    op.add_column("admin_jobs", sa.Column("rejected", postgresql.JSONB))
    op.execute(OWNER)


def downgrade() -> None:
    op.drop_index("archived_rows_deleted_idx", "archived_rows")
    op.drop_column("archived_rows", "user_id")
    op.drop_column("admin_jobs", "rejected")
