"""Run the migrations in one transaction, one runner at a time, with a short lock timeout."""

from typing import Any

from alembic import context
from alembic.util import CommandError
from flask import current_app
from sqlalchemy import Connection, text

from cli import adoption_trial
from core.database import db, use_direct_connection
from migrations import inspection

LOCK_TIMEOUT = "10s"  # a waiting DDL lock blocks all traffic, so the migration fails instead
MIGRATION_LOCK = 7_306_211_947  # any constant; serialises concurrent runners

KNOWN_TABLES = frozenset(db.metadata.tables)


def _is_ours(_: Any, name: str | None, kind: str, is_reflected: bool, compared: Any) -> bool:  # noqa: FBT001 - alembic calls it
    """Exclude tables, columns and indexes of the adopted installation from autogenerate."""
    if kind == "table":
        return name in KNOWN_TABLES
    return not (is_reflected and compared is None and kind in ("column", "index"))


def _run() -> None:
    use_direct_connection()
    with db.engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=db.metadata,
            include_object=_is_ours,
            **current_app.extensions["migrate"].configure_args,
        )
        with context.begin_transaction():
            connection.execute(
                text("SELECT set_config('lock_timeout', :t, true)"), {"t": LOCK_TIMEOUT}
            )
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            _migrate(connection)
            if not context.get_context().get_current_heads():
                connection.execute(text("DROP TABLE alembic_version"))  # after a full downgrade
            if at_the_end := context.config.attributes.get("at_the_end"):
                at_the_end(connection)  # raises in a dry run, so that everything is rolled back


def _migrate(connection: Connection) -> None:
    """Run the migrations; an installation that they have adopted is then tested."""
    migration = context.get_context()
    was_empty = not migration.get_current_heads()
    try:
        context.run_migrations()
    except CommandError as err:  # the database has an unknown revision
        raise inspection.refusal_of_revision(connection) or err from err
    is_at_head = migration.get_current_heads() == tuple(context.script.get_heads())
    if was_empty and is_at_head and connection.scalar(text("SELECT count(*) FROM adoptions")):
        adoption_trial.run_trial(connection)


_run()
