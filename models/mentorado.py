"""mentorados: the profiles of the mentees, at most one for each user."""

import enum

from sqlalchemy import ColumnElement, ForeignKey, Index, String, and_, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Model
from models.columns import CreatedAt, Flag, SimNao, Time, pg_enum

UNIQUE_USER_INDEX = "mentorados_user_id_unique_idx"  # prevents a second profile of a user


class Turma(enum.StrEnum):
    """The classes of the programme."""

    NEON = "neon"


class Mentorado(Model):
    """A mentee's profile; without `user_id` it is pre-registered and not linked yet."""

    __tablename__ = "mentorados"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    nome_completo: Mapped[str] = mapped_column(String(255))
    email: Mapped[str | None] = mapped_column(String(320))
    foto_url: Mapped[str | None] = mapped_column(String(500))
    turma: Mapped[Turma] = mapped_column(pg_enum(Turma, "turma"))
    meta_faturamento: Mapped[int] = mapped_column(server_default=text("16000"))
    meta_leads: Mapped[int | None] = mapped_column(server_default=text("50"))
    meta_procedimentos: Mapped[int | None] = mapped_column(server_default=text("10"))
    meta_posts: Mapped[int | None] = mapped_column(server_default=text("12"))
    meta_stories: Mapped[int | None] = mapped_column(server_default=text("60"))
    ativo: Mapped[SimNao] = mapped_column(pg_enum(SimNao, "ativo"), server_default=SimNao.SIM)
    onboarding_completed: Mapped[SimNao] = mapped_column(
        pg_enum(SimNao, "sim_nao"), server_default=SimNao.NAO
    )
    # Created by an ensure call. While it is unedited and unreferenced by other tables, such a
    # profile may be replaced by a pre-registered one.
    created_automatically: Mapped[Flag]
    edited_at: Mapped[Time | None]
    # The goals before the first change that the mentee has not confirmed (trigger, migration 0019).
    previous_goals: Mapped[dict[str, int | None] | None] = mapped_column(JSONB(none_as_null=True))
    goals_changed_at: Mapped[Time | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]

    __table_args__ = (
        Index(UNIQUE_USER_INDEX, "user_id", unique=True),
        Index("mentorados_email_idx", "email"),
        Index("mentorados_turma_idx", "turma"),
        Index("mentorados_created_at_idx", "created_at"),
        Index("mentorados_turma_ativo_idx", "turma", "ativo"),
        Index(  # with the collation "C", which the comparison with migrations does not see
            "mentorados_active_name_idx",
            text("folded_text(nome_completo)"),
            "id",
            postgresql_where=text("ativo = 'sim'"),
        ),
        Index(
            "mentorados_search_idx",
            text("search_words(nome_completo, email)"),
            postgresql_using="gin",
            postgresql_where=text(
                "user_id IS NULL OR NOT (created_automatically AND edited_at IS NULL)"
            ),
        ),
        Index(
            "mentorados_unlinked_email_idx",
            text("normalized_address(email)"),
            postgresql_where=text("user_id IS NULL"),
        ),
        Index(
            "mentorados_carried_email_idx",
            text("normalized_address(email)"),
            postgresql_where=text(
                "user_id IS NOT NULL AND NOT (created_automatically AND edited_at IS NULL)"
            ),
        ),
    )

    @property
    def is_active(self) -> bool:
        """Whether the mentee takes part in the programme."""
        return self.ativo is SimNao.SIM

    @hybrid_property
    def is_unedited(self) -> bool:
        """Whether the profile was created automatically and never edited; also in statements."""
        return self.created_automatically and self.edited_at is None

    @is_unedited.inplace.expression
    @classmethod
    def _is_unedited_in_sql(cls) -> ColumnElement[bool]:
        return and_(cls.created_automatically, cls.edited_at.is_(None))
