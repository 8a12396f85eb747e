"""feedbacks: the mentor's feedback on one month of one mentee."""

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Model
from models.columns import CreatedAt, Time


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
