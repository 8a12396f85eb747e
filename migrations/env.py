"""How migrations run: in one transaction, one runner at a time, never waiting long for a lock."""

from typing import Any

from alembic import context
from alembic.util import CommandError
from flask import current_app
from sqlalchemy import Connection, text

from cli import adoption_trial
from core.database import db
from migrations import inspection

LOCK_TIMEOUT = "10s"  # rather fail and try again than queue all traffic behind a waiting DDL lock
MIGRATION_LOCK = 7_306_211_947  # any constant: two runners at once take turns

KNOWN_TABLES = frozenset(db.metadata.tables)


def _is_ours(_: Any, name: str | None, kind: str, is_reflected: bool, compared: Any) -> bool:  # noqa: FBT001 - alembic calls it
    """Leave alone the tables, columns and indexes that an existing installation brought along."""
    if kind == "table":
        return name in KNOWN_TABLES
    return not (is_reflected and compared is None and kind in ("column", "index"))


def _run() -> None:
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
                connection.execute(text("DROP TABLE alembic_version"))  # nothing of ours stays
            if look := context.config.attributes.get("at_the_end"):
                look(connection)  # a rehearsal raises here, and all of it is taken back


def _migrate(connection: Connection) -> None:
    """Run the migrations; an installation that they have taken over is then tried out."""
    migration = context.get_context()
    was_empty = not migration.get_current_heads()
    try:
        context.run_migrations()
    except CommandError as err:  # a revision that is not one of ours
        raise inspection.refusal_of_revision(connection) or err from err
    is_at_head = migration.get_current_heads() == tuple(context.script.get_heads())
    if was_empty and is_at_head and connection.scalar(text("SELECT count(*) FROM adoptions")):
        adoption_trial.try_out(connection)


_run()
