"""Take over an existing installation, or make a dry run of it, and read the report.

A dry run executes the same migrations in the transaction that `migrations/env.py` opens, and rolls
it back. Its report therefore cannot differ from the report of the real run.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from flask import current_app
from sqlalchemy import Connection, TextClause, text

from core.database import db
from migrations import inspection

BUSINESS = ("users", "mentorados", "metricas_mensais", "feedbacks")
SAMPLE = 20

CHANGES = text("""
    SELECT coalesce(jsonb_path_query_array(facts, '$.changes[*].what'), '[]')
      FROM adoptions ORDER BY id DESC LIMIT 1
""")
DECISIONS = text("""
    SELECT coalesce(facts -> 'decisions', '[]') FROM adoptions ORDER BY id DESC LIMIT 1
""")
TIMES = text("""
    SELECT jsonb_object_agg(key, value) FROM adoptions, jsonb_each(facts) WHERE key = ANY (:tables)
""")
CONFLICTS = text("""
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'table', table_name, 'id', content -> 'id',
               'from', mentorado_id, 'kept', kept_mentorado_id
           ) ORDER BY table_name, mentorado_id, content::text), '[]')
      FROM archived_rows WHERE reason = 'adoption' AND table_name <> 'mentorados'
""")
MOVED = text("""
    SELECT coalesce(jsonb_object_agg(table_name, number), '{}') FROM (
        SELECT table_name, count(*) AS number FROM archived_rows
         WHERE reason = 'adoption: moved' GROUP BY table_name) AS counted
""")
AMBIGUOUS = text("""
    SELECT coalesce(jsonb_agg(jsonb_build_object('address', address, 'mentorado_ids', ids)
                              ORDER BY address), '[]')
      FROM (SELECT normalized_address(email) AS address, jsonb_agg(id ORDER BY id) AS ids
              FROM mentorados WHERE user_id IS NULL AND normalized_address(email) IS NOT NULL
             GROUP BY 1 HAVING count(*) > 1) AS shared
""")
WITHOUT_PROFILE = text("""
    SELECT id FROM users u
     WHERE role = 'user' AND NOT EXISTS (SELECT 1 FROM mentorados m WHERE m.user_id = u.id)
     ORDER BY id
""")
PRE_REGISTERED = text("SELECT id FROM mentorados WHERE user_id IS NULL ORDER BY id")
# Live and archived rows together, which nothing may change.
COUNTED = """
    SELECT (SELECT count(*) FROM {table})
         + (SELECT count(*) FROM archived_rows WHERE reason = 'adoption' AND table_name = '{table}')
"""
REVENUE = text("""
    SELECT coalesce(sum(revenue), 0) FROM (
        SELECT sum(faturamento) AS revenue FROM metricas_mensais
        UNION ALL
        SELECT sum((content ->> 'faturamento')::bigint) FROM archived_rows
         WHERE reason = 'adoption' AND table_name = 'metricas_mensais') AS together
""")


@dataclass(frozen=True, slots=True)
class Report:
    """The changes of a take-over, as ids and counts without the contents of rows.

    `changes` are those of the schema, apart from times and objects that every database gets.
    `decisions` name the profile that is kept and why: `history` (months or feedback), `used` (other
    rows refer to it), `older`, or `first` (the lower id).
    """

    changes: list[str]
    times: dict[str, list[str]]
    decisions: list[dict[str, Any]]
    moved: dict[str, int]
    conflicts: list[dict[str, Any]]
    ambiguous_addresses: list[dict[str, Any]]
    without_profile: dict[str, Any]
    pre_registered: dict[str, Any]
    rows: dict[str, int]
    revenue: int

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self)


class DryRunError(Exception):
    """Raised at the end of a dry run, so that its transaction is rolled back."""


def needs_adoption() -> bool:
    """Whether the database belongs to another program and is not taken over yet."""
    scripts = ScriptDirectory.from_config(_config())
    revisions = {script.revision for script in scripts.walk_revisions()}
    with db.engine.connect() as connection:
        return inspection.is_foreign(connection, revisions)


def similar_tables() -> list[str]:
    """Return tables with the expected names in another schema or letter case."""
    with db.engine.connect() as connection:
        return inspection.similar_tables(connection)


def dry_run_adoption() -> Report:
    """Take over the installation, read the report, and roll back; the tables are locked meanwhile.

    Raises AdoptionRefusedError for an installation that cannot be taken over, and the errors of the
    migrations. Nothing is changed in any case.
    """
    reports: list[Report] = []

    def read_and_roll_back(connection: Connection) -> None:
        reports.append(read_report(connection))
        raise DryRunError

    with suppress(DryRunError):
        _upgrade(read_and_roll_back)
    return reports[0]


def adopt() -> Report:
    """Take over the installation in one transaction; raises as `dry_run_adoption` does."""
    reports: list[Report] = []
    _upgrade(lambda connection: reports.append(read_report(connection)))
    return reports[0]


def past_report() -> Report | None:
    """Return the report of an earlier take-over; None if there was none."""
    with db.engine.connect() as connection:
        if not connection.scalar(text("SELECT to_regclass('adoptions') IS NOT NULL")):
            return None
        is_adopted = connection.scalar(text("SELECT EXISTS (SELECT 1 FROM adoptions)"))
        return read_report(connection) if is_adopted else None


def read_report(connection: Connection) -> Report:
    """Read the report from the tables `adoptions` and `archived_rows`."""
    rows = {table: connection.scalar(text(COUNTED.format(table=table))) for table in BUSINESS}
    return Report(
        changes=connection.scalar(CHANGES) or [],
        times=connection.scalar(TIMES, {"tables": list(BUSINESS)}) or {},
        decisions=connection.scalar(DECISIONS) or [],
        moved=connection.scalar(MOVED) or {},
        conflicts=connection.scalar(CONFLICTS) or [],
        ambiguous_addresses=connection.scalar(AMBIGUOUS) or [],
        without_profile=_counted(connection, WITHOUT_PROFILE),
        pre_registered=_counted(connection, PRE_REGISTERED),
        rows={table: int(number or 0) for table, number in rows.items()},
        revenue=int(connection.scalar(REVENUE) or 0),
    )


def _counted(connection: Connection, ids: TextClause) -> dict[str, Any]:
    """Return the number of ids and the first of them."""
    counted = text(f"SELECT count(*) FROM ({ids.text}) AS found")  # noqa: S608 - constants only
    return {
        "count": connection.scalar(counted),
        "first": list(connection.scalars(text(f"{ids.text} LIMIT {SAMPLE}"))),
    }


def _upgrade(before_commit: Callable[[Connection], None]) -> None:
    """Migrate to head; `before_commit` is called in the same transaction."""
    config = _config()
    config.attributes["at_the_end"] = before_commit
    command.upgrade(config, "head")


def _config() -> Config:
    config: Config = current_app.extensions["migrate"].migrate.get_config()
    return config
