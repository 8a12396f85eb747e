"""Allow one profile for each user; an adopted installation may have had several."""

import sqlalchemy as sa
from alembic import op

from migrations import adoption, duplicates
from migrations.baseline import ONE_EACH
from migrations.referring import quoted, run

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    adoption.create_facts_table()
    duplicates.merge_duplicates()
    if adoption.is_there(ONE_EACH):
        return
    theirs = adoption.unique_index_of("mentorados", "user_id")
    if theirs is None:
        op.create_index(ONE_EACH, "mentorados", ["user_id"], unique=True)
    else:
        # The program recognises a violation of this key by its name.
        run(f"ALTER INDEX {quoted(theirs)} RENAME TO {ONE_EACH}")
        adoption.store_facts(one_each_was=theirs)


def downgrade() -> None:
    if not op.get_bind().scalar(sa.text("SELECT EXISTS (SELECT 1 FROM adoptions)")):
        op.drop_table("adoptions")
        return
    if theirs := adoption.read_fact("one_each_was"):
        run(f"ALTER INDEX {ONE_EACH} RENAME TO {quoted(theirs)}")
    elif not adoption.read_fact("had_one_profile_each"):
        op.drop_index(ONE_EACH, "mentorados")
    duplicates.restore_duplicates()
