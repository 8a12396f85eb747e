"""One profile for each person, also in an installation that had several."""

import sqlalchemy as sa
from alembic import op

from migrations import adoption, duplicates

revision = "0009"
down_revision = "0008"

ONE_EACH = "mentorados_user_id_unique_idx"


def upgrade() -> None:
    adoption.create_mark()
    duplicates.settle()
    if not adoption.is_there(ONE_EACH):
        op.create_index(ONE_EACH, "mentorados", ["user_id"], unique=True)


def downgrade() -> None:
    if not op.get_bind().scalar(sa.text("SELECT EXISTS (SELECT 1 FROM adoptions)")):
        op.drop_table("adoptions")
        return
    if not adoption.fact("had_one_profile_each"):
        op.drop_index(ONE_EACH, "mentorados")
    duplicates.bring_back()
