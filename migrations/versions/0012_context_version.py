"""Add users.context_version, which every change that concerns a user's request context increments.

Triggers increment it in the transaction of the change. They cover every writer: a command, another
host, and a statement typed into psql.
"""

from alembic import op

revision = "0012"
down_revision = "0011"

# Existing rows begin with 1. A new row begins with the time in milliseconds: a user who was erased
# and signs in again must not repeat versions of cache entries that may remain.
COLUMN = """
ALTER TABLE users ADD COLUMN context_version bigint NOT NULL DEFAULT 1;
ALTER TABLE users ALTER COLUMN context_version
    SET DEFAULT floor(extract(epoch from now()) * 1000);
"""
USER_COLUMNS = (
    "name",
    "email",
    "email_verified",
    "image_url",
    "role",
    "blocked_at",
    "deleted_at",
)
PROFILE_COLUMNS = (
    "user_id",
    "nome_completo",
    "email",
    "foto_url",
    "turma",
    "meta_faturamento",
    "meta_leads",
    "meta_procedimentos",
    "meta_posts",
    "meta_stories",
    "ativo",
    "onboarding_completed",
    "created_automatically",
    "edited_at",
)


def _is_changed(columns: tuple[str, ...]) -> str:
    old, new = (", ".join(f"{row}.{name}" for name in columns) for row in ("OLD", "NEW"))
    return f"ROW({old}) IS DISTINCT FROM ROW({new})"


# A user without profile has no cached context, so that giving a profile to a user increments
# nothing: a sweep of a million users stays one INSERT.
TRIGGERS = f"""
CREATE FUNCTION increment_context_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.context_version := OLD.context_version + 1;
    RETURN NEW;
END $$;
CREATE FUNCTION increment_context_version_of_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE users SET context_version = context_version + 1 WHERE id = OLD.user_id;
    RETURN NULL;
END $$;
CREATE TRIGGER context_version BEFORE UPDATE ON users FOR EACH ROW
    WHEN ({_is_changed(USER_COLUMNS)})
    EXECUTE FUNCTION increment_context_version();
CREATE TRIGGER context_version_on_update AFTER UPDATE ON mentorados FOR EACH ROW
    WHEN (OLD.user_id IS NOT NULL AND {_is_changed(PROFILE_COLUMNS)})
    EXECUTE FUNCTION increment_context_version_of_owner();
CREATE TRIGGER context_version_on_delete AFTER DELETE ON mentorados FOR EACH ROW
    WHEN (OLD.user_id IS NOT NULL)
    EXECUTE FUNCTION increment_context_version_of_owner();
"""  # noqa: S608 - built from constants of this file only


def upgrade() -> None:
    op.execute(COLUMN)
    op.execute(TRIGGERS)


def downgrade() -> None:
    op.execute("""
        DROP TRIGGER context_version_on_delete ON mentorados;
        DROP TRIGGER context_version_on_update ON mentorados;
        DROP TRIGGER context_version ON users;
        DROP FUNCTION increment_context_version_of_owner();
        DROP FUNCTION increment_context_version();
        ALTER TABLE users DROP COLUMN context_version;
    """)
