"""Add verification, blocking and the address key of users, and the edit state of profiles."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# The key by which addresses are compared: NFKC, trimmed, lower case; blank is no address.
# The function is immutable with a parsed body, so that indexes may use it and a dump restores.
NORMALIZED_ADDRESS = r"""
CREATE FUNCTION normalized_address(address text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN nullif(lower(btrim(normalize(address, NFKC), E' \t\n\r\f\x0B')), '')
"""


def _flag(name: str) -> sa.Column:
    return sa.Column(name, sa.Boolean, server_default=sa.text("false"), nullable=False)


def upgrade() -> None:
    op.add_column("users", _flag("email_verified"))
    op.add_column("users", _flag("admin_by_address"))
    op.add_column("users", sa.Column("blocked_at", sa.DateTime(timezone=True)))
    op.add_column("mentorados", _flag("created_automatically"))
    op.add_column("mentorados", sa.Column("edited_at", sa.DateTime(timezone=True)))
    op.execute(NORMALIZED_ADDRESS)
    address = [sa.text("normalized_address(email)")]
    op.create_index("users_normalized_email_idx", "users", address)
    op.create_index(
        "mentorados_unlinked_email_idx",
        "mentorados",
        address,
        postgresql_where=sa.text("user_id IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("mentorados_unlinked_email_idx", "mentorados")
    op.drop_index("users_normalized_email_idx", "users")
    op.execute("DROP FUNCTION normalized_address(text)")
    op.drop_column("mentorados", "edited_at")
    op.drop_column("mentorados", "created_automatically")
    op.drop_column("users", "blocked_at")
    op.drop_column("users", "admin_by_address")
    op.drop_column("users", "email_verified")
