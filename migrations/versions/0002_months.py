"""Create or adopt the monthly reports of mentees and the feedback of their mentors."""

import sqlalchemy as sa
from alembic import op

from migrations import adoption, baseline, loss_checks

revision = "0002"
down_revision = "0001"

TABLES = ("metricas_mensais", "feedbacks")
INDEXES = (
    "metricas_mentorado_periodo_idx",
    "metricas_mentorado_idx",
    "metricas_periodo_idx",
    "feedbacks_mentorado_periodo_idx",
)
RULE = sa.text("""
    SELECT EXISTS (SELECT 1 FROM pg_constraint
                    WHERE conrelid = to_regclass(:table) AND conname = :name)
""")


def upgrade() -> None:
    if adoption.is_there("adoptions"):
        _adopt()
        return
    baseline.create_table(op.execute, baseline.METRICAS_MENSAIS)
    baseline.create_table(op.execute, baseline.FEEDBACKS)


def _adopt() -> None:
    adoption.adopt_tables(baseline.METRICAS_MENSAIS, baseline.FEEDBACKS)
    adoption.add_index("metricas_mentorado_idx", "metricas_mensais", "mentorado_id")
    adoption.add_index("metricas_periodo_idx", "metricas_mensais", "ano, mes")
    had_rules = [table for table in TABLES if _has_rule(table)]
    adoption.store_facts(had_rules=had_rules)
    for table in set(TABLES) - set(had_rules):
        rule = f"{table}_mes_check"
        op.execute(
            f"ALTER TABLE {table} ADD CONSTRAINT {rule} CHECK (mes BETWEEN 1 AND 12) NOT VALID"
        )
        op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {rule}")


def _has_rule(table: str) -> bool:
    return op.get_bind().scalar(RULE, {"table": table, "name": f"{table}_mes_check"})


def _return_tables() -> None:
    for table in set(TABLES) - set(adoption.read_fact("had_rules") or []):
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_mes_check")
    for name in INDEXES:
        adoption.drop_index(name)
    loss_checks.restore()
    adoption.return_tables(*TABLES)


def downgrade() -> None:
    if adoption.is_there("adoptions"):
        _return_tables()
        return
    op.drop_table("feedbacks")
    op.drop_table("metricas_mensais")
