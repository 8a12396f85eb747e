"""Allow months with a loss in an installation adopted before losses were allowed.

The adoption itself now refuses check constraints that would refuse a loss (`row_checks.py`). The
downgrade of 0002 restores the constraints, because rows with a loss may have to be moved or
restored before.
"""

import sqlalchemy as sa
from alembic import op

from migrations import loss_checks

revision = "0014"
down_revision = "0013"

IS_ADOPTED = sa.text("SELECT EXISTS (SELECT 1 FROM adoptions)")


def upgrade() -> None:
    if op.get_bind().scalar(IS_ADOPTED):
        loss_checks.drop()


def downgrade() -> None:
    """Do nothing: 0002 restores the constraints, and the older code does not need them."""
