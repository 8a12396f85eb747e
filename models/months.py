"""metricas_mensais and feedbacks: what a mentee reports for a month, and what mentors write."""

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Model
from models.columns import Count, CreatedAt, Time


class MetricaMensal(Model):
    """A report of one month in whole reais and counts; a goal that is NULL is the profile's."""

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


class Feedback(Model):
    """One feedback; at most one for each month."""

    __tablename__ = "feedbacks"

    id: Mapped[int] = mapped_column(primary_key=True)
    mentorado_id: Mapped[int] = mapped_column(ForeignKey("mentorados.id", ondelete="CASCADE"))
    ano: Mapped[int]
    mes: Mapped[int]
    analise_mes: Mapped[str]
    foco_proximo_mes: Mapped[str]
    sugestao_mentor: Mapped[str]
    # The user who wrote it; without a foreign key, because the feedback outlives the account.
    author_id: Mapped[int | None]
    # When the mentee has marked it as read; it is new again after a later change.
    read_at: Mapped[Time | None]
    # When the mentee has ticked the focus in the month for which it is meant.
    focus_done_at: Mapped[Time | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]

    __table_args__ = (
        CheckConstraint("mes BETWEEN 1 AND 12", name="mes"),
        Index("feedbacks_mentorado_periodo_idx", "mentorado_id", "ano", "mes", unique=True),
        Index("feedbacks_periodo_idx", "ano", "mes"),
    )
