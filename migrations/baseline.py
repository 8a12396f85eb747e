"""The tables that this program shares with the other one, as 0001 and 0002 create them.

An installation to adopt is compared with these definitions, column by column. They never change:
changes of later migrations are not part of them.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import Column

ENUMS = {
    "role": ("user", "admin"),
    "turma": ("neon",),
    "ativo": ("sim", "nao"),
    "sim_nao": ("sim", "nao"),
}
# One profile for each user; migration 0009 adds this index where users had several.
ONE_EACH = "mentorados_user_id_unique_idx"
# Functions that later migrations create.
FUNCTIONS = (
    "normalized_address(text)",
    "international_address(text)",
    "domain_key(text)",
    "composed_address_part(text)",
)
# `longest` and `largest` in `info`: the maximum that the program writes, where the type takes more.

# PostgreSQL's own default names.
metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)


def _enum(name: str) -> postgresql.ENUM:
    return postgresql.ENUM(*ENUMS[name], name=name, create_type=False)


def _time(name: str) -> Column[Any]:
    return Column(name, sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False)


def _count(name: str) -> Column[Any]:
    return Column(name, sa.Integer, server_default=sa.text("0"), nullable=False)


def _goal(name: str, default: int) -> Column[Any]:
    return Column(name, sa.Integer, server_default=sa.text(str(default)))


def _text(name: str) -> Column[Any]:
    return Column(name, sa.Text, nullable=False, info={"longest": 5_000})


def _month_of_mentorado() -> list[Column[Any] | sa.CheckConstraint]:
    owner = sa.ForeignKey("mentorados.id", ondelete="CASCADE")
    return [
        Column("id", sa.Integer, primary_key=True),
        Column("mentorado_id", sa.Integer, owner, nullable=False),
        Column("ano", sa.Integer, nullable=False, info={"largest": 9999}),
        Column("mes", sa.Integer, nullable=False, info={"largest": 12}),
        sa.CheckConstraint("mes BETWEEN 1 AND 12", name="mes"),
    ]


USERS = sa.Table(
    "users",
    metadata,
    Column("id", sa.Integer, primary_key=True),
    Column("clerk_id", sa.String(64), nullable=False),
    Column("name", sa.Text, info={"longest": 255}),
    Column("email", sa.String(320)),
    Column("image_url", sa.Text, info={"longest": 500}),
    Column("login_method", sa.String(64)),
    Column("role", _enum("role"), server_default="user", nullable=False),
    _time("created_at"),
    _time("updated_at"),
    _time("last_signed_in"),
    sa.UniqueConstraint("clerk_id"),
    sa.Index("users_email_idx", "email"),
)
MENTORADOS = sa.Table(
    "mentorados",
    metadata,
    Column("id", sa.Integer, primary_key=True),
    Column("user_id", sa.Integer, sa.ForeignKey("users.id", ondelete="SET NULL")),
    Column("nome_completo", sa.String(255), nullable=False),
    Column("email", sa.String(320)),
    Column("foto_url", sa.String(500)),
    Column("turma", _enum("turma"), nullable=False),
    Column("meta_faturamento", sa.Integer, server_default=sa.text("16000"), nullable=False),
    _goal("meta_leads", 50),
    _goal("meta_procedimentos", 10),
    _goal("meta_posts", 12),
    _goal("meta_stories", 60),
    Column("ativo", _enum("ativo"), server_default="sim", nullable=False),
    Column("onboarding_completed", _enum("sim_nao"), server_default="nao", nullable=False),
    _time("created_at"),
    _time("updated_at"),
    sa.Index(ONE_EACH, "user_id", unique=True),
    sa.Index("mentorados_email_idx", "email"),
    sa.Index("mentorados_turma_idx", "turma"),
    sa.Index("mentorados_turma_ativo_idx", "turma", "ativo"),
)
METRICAS_MENSAIS = sa.Table(
    "metricas_mensais",
    metadata,
    *_month_of_mentorado(),
    *map(_count, ("faturamento", "lucro", "posts_feed", "stories", "leads", "procedimentos")),
    Column("observacoes", sa.Text, info={"longest": 5_000}),
    Column("meta_faturamento", sa.Integer),
    Column("meta_leads", sa.Integer),
    Column("meta_procedimentos", sa.Integer),
    Column("meta_posts", sa.Integer),
    Column("meta_stories", sa.Integer),
    _time("created_at"),
    _time("updated_at"),
    sa.Index("metricas_mentorado_periodo_idx", "mentorado_id", "ano", "mes", unique=True),
    sa.Index("metricas_mentorado_idx", "mentorado_id"),
    sa.Index("metricas_periodo_idx", "ano", "mes"),
)
FEEDBACKS = sa.Table(
    "feedbacks",
    metadata,
    *_month_of_mentorado(),
    *map(_text, ("analise_mes", "foco_proximo_mes", "sugestao_mentor")),
    _time("created_at"),
    _time("updated_at"),
    sa.Index("feedbacks_mentorado_periodo_idx", "mentorado_id", "ano", "mes", unique=True),
)
TABLES = (USERS, MENTORADOS, METRICAS_MENSAIS, FEEDBACKS)


def create_enum(execute: Callable[[str], object], name: str) -> None:
    """Create one of the enum types."""
    labels = ", ".join(f"'{label}'" for label in ENUMS[name])
    execute(f"CREATE TYPE {name} AS ENUM ({labels})")


def create_table(
    execute: Callable[[sa.schema.ExecutableDDLElement], object], table: sa.Table
) -> None:
    """Create a table with its indexes."""
    execute(sa.schema.CreateTable(table))
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        execute(sa.schema.CreateIndex(index))
