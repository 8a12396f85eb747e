"""metricas_mensais: a mentee's report for one month, in whole reais and counts."""

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Model
from models.columns import Count, CreatedAt


class MetricaMensal(Model):
    """One month of one mentee; where a goal is NULL, that of the profile counts."""

    __tablename__ = "metricas_mensais"

    id: Mapped[int] = mapped_column(primary_key=True)
    mentorado_id: Mapped[int] = mapped_column(ForeignKey("mentorados.id", ondelete="CASCADE"))
    ano: Mapped[int]
    mes: Mapped[int]
    faturamento: Mapped[Count]
    lucro: Mapped[Count]
    posts_feed: Mapped[Count]
    stories: Mapped[Count]
    leads: Mapped[Count]
    procedimentos: Mapped[Count]
    observacoes: Mapped[str | None]
    meta_faturamento: Mapped[int | None]
    meta_leads: Mapped[int | None]
    meta_procedimentos: Mapped[int | None]
    meta_posts: Mapped[int | None]
    meta_stories: Mapped[int | None]
    # The figures that the mentee has given, as keys; NULL in rows of an older version: all of them.
    reported_fields: Mapped[dict[str, bool] | None] = mapped_column(JSONB(none_as_null=True))
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]

    __table_args__ = (
        CheckConstraint("mes BETWEEN 1 AND 12", name="mes"),
        Index("metricas_mentorado_periodo_idx", "mentorado_id", "ano", "mes", unique=True),
        Index("metricas_mentorado_idx", "mentorado_id"),
        Index("metricas_periodo_idx", "ano", "mes"),
    )
