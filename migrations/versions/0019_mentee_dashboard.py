"""Add what the dashboard of a mentee needs: reported fields, read feedback, changed goals.

The trigger keeps the goals before the first change that the mentee has not confirmed yet. It covers
every writer, also the goals of all mentees and a statement typed into psql.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0019"
down_revision = "0018"

GOALS = ("meta_faturamento", "meta_leads", "meta_procedimentos", "meta_posts", "meta_stories")
OLD_GOALS = ", ".join(f"'{name}', OLD.{name}" for name in GOALS)
OLD, NEW = (", ".join(f"{row}.{name}" for name in GOALS) for row in ("OLD", "NEW"))
TRIGGER = f"""
CREATE FUNCTION keep_previous_goals() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.previous_goals := coalesce(OLD.previous_goals, jsonb_build_object({OLD_GOALS}));
    NEW.goals_changed_at := now();
    RETURN NEW;
END $$;
CREATE TRIGGER previous_goals BEFORE UPDATE ON mentorados FOR EACH ROW
    WHEN (OLD.user_id IS NOT NULL AND ROW({OLD}) IS DISTINCT FROM ROW({NEW}))
    EXECUTE FUNCTION keep_previous_goals();
"""


def _time(name: str) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True))


def upgrade() -> None:
    # The figures that the mentee has given, as keys; NULL in rows of an older version: all of them.
    op.add_column("metricas_mensais", sa.Column("reported_fields", JSONB))
    op.add_column("feedbacks", sa.Column("author_id", sa.Integer))
    # The default marks existing feedback as read, without a rewrite of the table.
    op.add_column(
        "feedbacks", sa.Column("read_at", sa.DateTime(timezone=True), server_default=sa.func.now())
    )
    op.alter_column("feedbacks", "read_at", server_default=None)
    op.add_column("feedbacks", _time("focus_done_at"))
    op.add_column("mentorados", sa.Column("previous_goals", JSONB))
    op.add_column("mentorados", _time("goals_changed_at"))
    op.execute(TRIGGER)


def downgrade() -> None:
    op.execute("DROP TRIGGER previous_goals ON mentorados")
    op.execute("DROP FUNCTION keep_previous_goals()")
    op.drop_column("mentorados", "goals_changed_at")
    op.drop_column("mentorados", "previous_goals")
    op.drop_column("feedbacks", "focus_done_at")
    op.drop_column("feedbacks", "read_at")
    op.drop_column("feedbacks", "author_id")
    op.drop_column("metricas_mensais", "reported_fields")
