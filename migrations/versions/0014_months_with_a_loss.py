"""A month may end with a loss, also in an installation that was adopted when it could not.

Since then the adoption itself refuses check constraints that would refuse a loss (`row_checks.py`).
The way back is part of giving the installation back (0002): rows with a loss may have to be moved
or restored before, which the constraint would refuse.
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
    """Nothing to do here, see above: 0002 restores the constraints, the old code needs none."""
