"""Add the times of identities from Clerk, and the table of processed webhook messages."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

TIMES = ("deleted_at", "identity_as_of", "identity_completed_at")


def upgrade() -> None:
    for name in TIMES:
        op.add_column("users", sa.Column(name, sa.DateTime(timezone=True)))
    op.create_index(
        "users_incomplete_idx",
        "users",
        ["id"],
        postgresql_where=sa.text("identity_completed_at IS NULL"),
    )
    op.create_table(
        "webhook_messages",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
        ),
    )
    op.create_index("webhook_messages_received_at_idx", "webhook_messages", ["received_at"])


def downgrade() -> None:
    op.drop_table("webhook_messages")
    op.drop_index("users_incomplete_idx", "users")
    for name in TIMES:
        op.drop_column("users", name)
