"""Allow attempts with zero background retries, and store a sample of the users of a dry run."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.drop_constraint("provisioning_attempts_attempts_check", "provisioning_attempts")
    op.create_check_constraint("attempts", "provisioning_attempts", "attempts >= 0")
    op.add_column("sweep_runs", sa.Column("sample", postgresql.JSONB))


def downgrade() -> None:
    op.drop_column("sweep_runs", "sample")
    op.execute("UPDATE provisioning_attempts SET attempts = 1 WHERE attempts = 0")
    op.drop_constraint("provisioning_attempts_attempts_check", "provisioning_attempts")
    op.create_check_constraint("attempts", "provisioning_attempts", "attempts > 0")
