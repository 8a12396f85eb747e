"""Create totals over all sweep runs, so that old runs can be deleted and counters never fall."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "sweep_totals",
        sa.Column("trigger", sa.Text, primary_key=True),
        sa.Column("status", sa.Text, primary_key=True),
        sa.Column("runs", sa.BigInteger, server_default=sa.text("0"), nullable=False),
        sa.Column("repaired", sa.BigInteger, server_default=sa.text("0"), nullable=False),
    )
    op.execute("""
        INSERT INTO sweep_totals (trigger, status, runs, repaired)
        SELECT trigger, status, count(*), sum(CASE WHEN dry_run THEN 0 ELSE created + linked END)
          FROM sweep_runs WHERE status NOT IN ('queued', 'running') GROUP BY trigger, status
    """)


def downgrade() -> None:
    op.drop_table("sweep_totals")
