"""Run the migrations in one transaction, one runner at a time, with a short lock timeout.

`--sql` prints the statements for a database of this program instead; it connects to none.
"""

from typing import Any, cast

from alembic import context
from alembic.migration import MigrationContext
from alembic.util import CommandError
from flask import current_app
from sqlalchemy import Connection, TextClause, text
from sqlalchemy.engine.result import null_result

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


def _skip_empty(_: Any, __: Any, directives: list[Any]) -> None:
    """Write no migration where models and database are equal."""
    if getattr(context.config.cmd_opts, "autogenerate", False):
        directives[:] = [each for each in directives if not each.upgrade_ops.is_empty()]


def _options() -> dict[str, Any]:
    return {
        "target_metadata": db.metadata,
        "include_object": _is_ours,
        "process_revision_directives": _skip_empty,
        **current_app.extensions["migrate"].configure_args,
    }


def _run() -> None:
    use_direct_connection()
    with db.engine.connect() as connection:
        context.configure(connection=connection, **_options())
        migration = context.get_context()
        with context.begin_transaction():
            connection.execute(
                text("SELECT set_config('lock_timeout', :t, true)"), {"t": LOCK_TIMEOUT}
            )
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            was_empty = not migration.get_current_heads()
            _migrate(connection)
            if not was_empty and not migration.get_current_heads():
                connection.execute(text("DROP TABLE alembic_version"))  # after a full downgrade
            if at_the_end := context.config.attributes.get("at_the_end"):
                at_the_end(connection)  # raises in a dry run, so that everything is rolled back


def _migrate(connection: Connection) -> None:
    """Run the migrations; an installation that they have adopted is then tested."""
    migration = context.get_context()
    was_empty = not migration.get_current_heads()
    try:
        context.run_migrations()
    except CommandError as err:
        known = {script.revision for script in context.script.walk_revisions()}
        if known.issuperset(migration.get_current_heads()):
            raise  # the command names an unknown revision, not the database
        raise inspection.refusal_of_revision(connection) or err from err
    is_at_head = migration.get_current_heads() == tuple(context.script.get_heads())
    if was_empty and is_at_head and connection.scalar(text("SELECT count(*) FROM adoptions")):
        adoption_trial.run_trial(connection)


class _OfflineConnection:
    """Prints statements, and answers queries as a database of this program without adoption."""

    def __init__(self, migration: MigrationContext) -> None:
        self._print = migration.impl._exec  # noqa: SLF001 - as Alembic's own offline mode does

    def execute(self, statement: TextClause, values: Any = None) -> Any:
        if not str(statement).lstrip().upper().startswith(("SELECT", "WITH")):
            self._print(statement.bindparams(**values or {}))
        return null_result()

    def scalar(self, statement: TextClause, values: dict[str, Any] | None = None) -> Any:
        """Find the table or index by its name, but nothing that only an adoption creates."""
        name = (values or {}).get("table") if "to_regclass(:table)" in str(statement) else None
        return None if name == "adoptions" else name


def _print_statements() -> None:
    context.configure(dialect_name="postgresql", literal_binds=True, **_options())
    migration = context.get_context()
    migration.impl.connection = cast(Connection, _OfflineConnection(migration))
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    _print_statements()
else:
    _run()
