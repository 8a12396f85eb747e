"""What mentees report for each month and what their mentor answers."""

import sqlalchemy as sa
from alembic import op

from migrations import adoption, loss_checks

revision = "0002"
down_revision = "0001"

TABLES = ("metricas_mensais", "feedbacks")
INDEXES = (
    "metricas_mentorado_periodo_idx",
    "metricas_mentorado_idx",
    "metricas_periodo_idx",
    "feedbacks_mentorado_periodo_idx",
)


def _count(name: str) -> sa.Column:
    return sa.Column(name, sa.Integer, server_default=sa.text("0"), nullable=False)


def _time(name: str) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False)


def _month_of_mentorado() -> list[sa.Column | sa.CheckConstraint]:
    owner = sa.ForeignKey("mentorados.id", ondelete="CASCADE")
    return [
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("mentorado_id", sa.Integer, owner, nullable=False),
        sa.Column("ano", sa.Integer, nullable=False),
        sa.Column("mes", sa.Integer, nullable=False),
        sa.CheckConstraint("mes BETWEEN 1 AND 12", name="mes"),
    ]


def upgrade() -> None:
    if adoption.is_there("metricas_mensais"):
        _adopt()
        return
    counts = ("faturamento", "lucro", "posts_feed", "stories", "leads", "procedimentos")
    goals = ("meta_faturamento", "meta_leads", "meta_procedimentos", "meta_posts", "meta_stories")
    op.create_table(
        "metricas_mensais",
        *_month_of_mentorado(),
        *(_count(name) for name in counts),
        sa.Column("observacoes", sa.Text),
        *(sa.Column(name, sa.Integer) for name in goals),
        _time("created_at"),
        _time("updated_at"),
    )
    period = ["mentorado_id", "ano", "mes"]
    op.create_index("metricas_mentorado_periodo_idx", "metricas_mensais", period, unique=True)
    op.create_index("metricas_mentorado_idx", "metricas_mensais", ["mentorado_id"])
    op.create_index("metricas_periodo_idx", "metricas_mensais", ["ano", "mes"])
    texts = ("analise_mes", "foco_proximo_mes", "sugestao_mentor")
    op.create_table(
        "feedbacks",
        *_month_of_mentorado(),
        *(sa.Column(name, sa.Text, nullable=False) for name in texts),
        _time("created_at"),
        _time("updated_at"),
    )
    op.create_index("feedbacks_mentorado_periodo_idx", "feedbacks", period, unique=True)


def _adopt() -> None:
    adoption.take_in("metricas_mensais", "feedbacks")
    loss_checks.drop()  # before 0009 moves rows, which may have a loss
    period = "mentorado_id, ano, mes"
    adoption.add_index("metricas_mentorado_periodo_idx", "metricas_mensais", period, unique=True)
    adoption.add_index("metricas_mentorado_idx", "metricas_mensais", "mentorado_id")
    adoption.add_index("metricas_periodo_idx", "metricas_mensais", "ano, mes")
    adoption.add_index("feedbacks_mentorado_periodo_idx", "feedbacks", period, unique=True)
    for table in TABLES:
        # Old rows are looked at below; where one is wrong the rule holds for new ones only.
        rule = f"ALTER TABLE {table} ADD CONSTRAINT {table}_mes_check"
        op.execute(f"{rule} CHECK (mes BETWEEN 1 AND 12) NOT VALID")
        wrong = f"SELECT EXISTS (SELECT 1 FROM {table} WHERE mes NOT BETWEEN 1 AND 12)"  # noqa: S608 - constants
        if not op.get_bind().scalar(sa.text(wrong)):
            op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {table}_mes_check")


def _give_back() -> None:
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_mes_check")
    for name in INDEXES:
        adoption.drop_index(name)
    loss_checks.restore()
    adoption.give_back(*TABLES)


def downgrade() -> None:
    if adoption.is_there("adoptions"):
        _give_back()
        return
    op.drop_table("feedbacks")
    op.drop_table("metricas_mensais")
