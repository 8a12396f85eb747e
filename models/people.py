"""users, mentorados, metricas_mensais and feedbacks: accounts, profiles, and their months."""

import enum
from collections.abc import Mapping

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
    and_,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Model
from models.columns import Count, CreatedAt, Flag, Time, partial_index, pg_enum

UNIQUE_USER_INDEX = "mentorados_user_id_unique_idx"  # prevents a second profile of a user


class Role(enum.StrEnum):
    """The roles of users."""

    USER = "user"
    ADMIN = "admin"


class User(Model):
    """A user with the latest known identity. Lengths are those of the adopted schema."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    clerk_id: Mapped[str] = mapped_column(String(64))
    name: Mapped[str | None]
    email: Mapped[str | None] = mapped_column(String(320))
    # Whether Clerk has verified `email`; only then may it link a pre-registered profile.
    email_verified: Mapped[Flag]
    image_url: Mapped[str | None]
    login_method: Mapped[str | None] = mapped_column(String(64))
    role: Mapped[Role] = mapped_column(pg_enum(Role, "role"), server_default=Role.USER)
    # The role comes from ADMIN_EMAILS and ends with it; a granted role stays.
    admin_by_address: Mapped[Flag]
    blocked_at: Mapped[Time | None]
    # The account of the same person that is used instead of this one, which is blocked. No foreign
    # key: the id may outlive that account.
    same_person_as: Mapped[int | None]
    # Clerk has deleted the account: none of its sessions is valid any longer.
    deleted_at: Mapped[Time | None]
    # The time of the newest identity by Clerk's clock; an older identity changes nothing.
    identity_as_of: Mapped[Time | None]
    # When a complete identity was last received, from Clerk's API or a token; NULL: not yet.
    identity_completed_at: Mapped[Time | None]
    # When this user was last looked up by a request, or by a sweep without an answer.
    identity_asked_at: Mapped[Time | None]
    # Incremented by triggers (migration 0012) with every change that concerns the user's request
    # context; a cached context of another version is invalid.
    context_version: Mapped[int] = mapped_column(
        BigInteger, server_default=text("floor(extract(epoch from now()) * 1000)")
    )
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
    last_signed_in: Mapped[CreatedAt]

    __table_args__ = (
        UniqueConstraint("clerk_id"),
        Index("users_email_idx", "email"),
        Index("users_normalized_email_idx", text("normalized_address(email)")),
        Index("users_search_idx", text("search_words(name, email)"), postgresql_using="gin"),
        partial_index(
            "users_incomplete_idx",
            text("identity_asked_at NULLS FIRST"),
            text("id DESC"),
            where="identity_completed_at IS NULL",
        ),
        partial_index(
            "users_refresh_idx",
            text("greatest(identity_asked_at, identity_completed_at)"),
            "id",
            where="identity_completed_at IS NOT NULL AND deleted_at IS NULL AND blocked_at IS NULL",
        ),
        Index("users_deleted_idx", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
    )

    @property
    def is_admin(self) -> bool:
        """Whether the user may use the admin console."""
        return self.role is Role.ADMIN


class SimNao(enum.StrEnum):
    """Yes and no, as the adopted schema stores them."""

    SIM = "sim"
    NAO = "nao"


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
        partial_index(  # with the collation "C", which the comparison with migrations does not see
            "mentorados_active_name_idx",
            text("folded_text(nome_completo)"),
            "id",
            where="ativo = 'sim'",
        ),
        partial_index(
            "mentorados_search_idx",
            text("search_words(nome_completo, email)"),
            postgresql_using="gin",
            where="user_id IS NULL OR NOT (created_automatically AND edited_at IS NULL)",
        ),
        partial_index(
            "mentorados_unlinked_email_idx",
            text("normalized_address(email)"),
            where="user_id IS NULL",
        ),
        partial_index(
            "mentorados_carried_email_idx",
            text("normalized_address(email)"),
            where="user_id IS NOT NULL AND NOT (created_automatically AND edited_at IS NULL)",
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


# What a mentee reports about a month, by column.
FIGURES = ("faturamento", "lucro", "posts_feed", "stories", "leads", "procedimentos")


def missing_figures(reported: Mapping[str, bool] | None) -> tuple[str, ...]:
    """Return the figures that were not given; a row of an older version has all of them."""
    return () if reported is None else tuple(name for name in FIGURES if name not in reported)


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

    @property
    def missing(self) -> tuple[str, ...]:
        """The figures that the mentee has not given yet; they count as zero."""
        return missing_figures(self.reported_fields)


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
