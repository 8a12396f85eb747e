"""Users and mentorados, with the names and types of the existing installation."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import adoption

revision = "0001"
down_revision = None

ENUMS = {
    "role": ("user", "admin"),
    "turma": ("neon",),
    "ativo": ("sim", "nao"),
    "sim_nao": ("sim", "nao"),
}


def _enum(name: str) -> postgresql.ENUM:
    return postgresql.ENUM(*ENUMS[name], name=name, create_type=False)


def _time(name: str) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False)


def upgrade() -> None:
    if adoption.is_there("users"):
        _adopt()
        return
    for name, values in ENUMS.items():
        postgresql.ENUM(*values, name=name).create(op.get_bind())
    _create_users()
    _create_mentorados()


def _adopt() -> None:
    """Take over what is there; one profile for each person is a matter for later (0009)."""
    adoption.create_mark()
    adoption.take_in("users", "mentorados")
    adoption.note(had_one_profile_each=adoption.is_there("mentorados_user_id_unique_idx"))
    adoption.add_index("users_email_idx", "users", "email")
    adoption.add_index("mentorados_email_idx", "mentorados", "email")
    adoption.add_index("mentorados_turma_idx", "mentorados", "turma")
    adoption.add_index("mentorados_turma_ativo_idx", "mentorados", "turma, ativo")


def _create_users() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("clerk_id", sa.String(64), nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("email", sa.String(320)),
        sa.Column("image_url", sa.Text),
        sa.Column("login_method", sa.String(64)),
        sa.Column("role", _enum("role"), server_default="user", nullable=False),
        _time("created_at"),
        _time("updated_at"),
        _time("last_signed_in"),
        sa.UniqueConstraint("clerk_id"),
    )
    op.create_index("users_email_idx", "users", ["email"])


def _create_mentorados() -> None:
    op.create_table(
        "mentorados",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("user_id", sa.Integer, sa.ForeignKey("users.id", ondelete="SET NULL")),
        sa.Column("nome_completo", sa.String(255), nullable=False),
        sa.Column("email", sa.String(320)),
        sa.Column("foto_url", sa.String(500)),
        sa.Column("turma", _enum("turma"), nullable=False),
        sa.Column("meta_faturamento", sa.Integer, server_default=sa.text("16000"), nullable=False),
        sa.Column("meta_leads", sa.Integer, server_default=sa.text("50")),
        sa.Column("meta_procedimentos", sa.Integer, server_default=sa.text("10")),
        sa.Column("meta_posts", sa.Integer, server_default=sa.text("12")),
        sa.Column("meta_stories", sa.Integer, server_default=sa.text("60")),
        sa.Column("ativo", _enum("ativo"), server_default="sim", nullable=False),
        sa.Column("onboarding_completed", _enum("sim_nao"), server_default="nao", nullable=False),
        _time("created_at"),
        _time("updated_at"),
    )
    op.create_index("mentorados_user_id_unique_idx", "mentorados", ["user_id"], unique=True)
    op.create_index("mentorados_email_idx", "mentorados", ["email"])
    op.create_index("mentorados_turma_idx", "mentorados", ["turma"])
    op.create_index("mentorados_turma_ativo_idx", "mentorados", ["turma", "ativo"])


def downgrade() -> None:
    if adoption.is_there("adoptions"):
        _give_back()
        return
    op.drop_table("mentorados")
    op.drop_table("users")
    for name in ENUMS:
        op.execute(f"DROP TYPE {name}")


def _give_back() -> None:
    for name in ("mentorados_turma_ativo_idx", "mentorados_turma_idx", "mentorados_email_idx"):
        adoption.drop_index(name)
    adoption.drop_index("users_email_idx")
    adoption.give_back("mentorados", "users")
    op.drop_table("adoptions")
