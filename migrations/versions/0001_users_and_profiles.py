"""Create users and mentorados with the other program's names and types, or adopt its tables."""

import logging

from alembic import op

from migrations import adoption, baseline

revision = "0001"
down_revision = None

log = logging.getLogger("alembic.runtime.migration")


def upgrade() -> None:
    if adoption.is_foreign():
        adoption.examine()
        log.info("Running the adoption of existing tables: flask adopt --json reports it")
        _adopt()
        return
    for name in baseline.ENUMS:
        baseline.create_enum(op.execute, name)
    baseline.create_table(op.execute, baseline.USERS)
    baseline.create_table(op.execute, baseline.MENTORADOS)


def _adopt() -> None:
    """Adopt the existing tables; migration 0009 later leaves each user one profile."""
    adoption.create_facts_table()
    adoption.create_missing_types()
    adoption.adopt_tables(baseline.USERS, baseline.MENTORADOS)
    adoption.store_facts(had_one_profile_each=adoption.is_there(baseline.ONE_EACH))
    adoption.add_index("users_email_idx", "users", "email")
    adoption.add_index("mentorados_email_idx", "mentorados", "email")
    adoption.add_index("mentorados_turma_idx", "mentorados", "turma")
    adoption.add_index("mentorados_turma_ativo_idx", "mentorados", "turma, ativo")


def downgrade() -> None:
    if adoption.is_there("adoptions"):
        _return_tables()
        return
    op.drop_table("mentorados")
    op.drop_table("users")
    for name in baseline.ENUMS:
        op.execute(f"DROP TYPE {name}")


def _return_tables() -> None:
    for name in ("mentorados_turma_ativo_idx", "mentorados_turma_idx", "mentorados_email_idx"):
        adoption.drop_index(name)
    adoption.drop_index("users_email_idx")
    adoption.return_tables("mentorados", "users")
    adoption.undo_changes()
    op.drop_table("adoptions")
