"""Taking over an existing installation: what would change, told by doing it and taking it back.

A rehearsal runs the very migrations in the transaction that env.py opens and rolls it back, so that
the report before cannot differ from the report after.
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
MIGRATE = "migrate"  # Flask-Migrate's extension

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
    """What taking over changes, in ids and counts; what a row holds is in the row, and afterwards
    in the archive.

    `changes` are those of the tables' form, apart from times and what is new in every database.
    `decisions` name the profile that stays and why: `history` (months or feedback), `used`
    (anything else refers to it), `older`, or `first` (the lower id).
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
        """The report as plain values."""
        return asdict(self)


class DryRunError(Exception):
    """Raised at the end of a rehearsal, so that its transaction is taken back."""


def is_to_be_adopted() -> bool:
    """Whether the database is one that another program has made, and that is not ours yet."""
    scripts = ScriptDirectory.from_config(_config())
    ours = {script.revision for script in scripts.walk_revisions()}
    with db.engine.connect() as connection:
        return inspection.is_foreign(connection, ours)


def similar_tables() -> list[str]:
    """Tables of another schema or case that may be the ones that are meant."""
    with db.engine.connect() as connection:
        return inspection.similar_tables(connection)


def dry_run_adoption() -> Report:
    """Do it all, look at it, and take it back; the tables are locked meanwhile.

    Raises what the migrations raise, AdoptionRefusedError for an installation that cannot be taken
    over; nothing is changed in any case.
    """
    seen: list[Report] = []

    def look(connection: Connection) -> None:
        seen.append(read_report(connection))
        raise DryRunError

    with suppress(DryRunError):
        _upgrade(look)
    return seen[0]


def adopt() -> Report:
    """Take it over, in one transaction; raises as `rehearse` does, and then has changed nothing."""
    seen: list[Report] = []
    _upgrade(lambda connection: seen.append(read_report(connection)))
    return seen[0]


def past_report() -> Report | None:
    """What a take-over has changed; None in a database of our own, or one that is not ours yet."""
    with db.engine.connect() as connection:
        if not connection.scalar(text("SELECT to_regclass('adoptions') IS NOT NULL")):
            return None
        is_adopted = connection.scalar(text("SELECT EXISTS (SELECT 1 FROM adoptions)"))
        return read_report(connection) if is_adopted else None


def read_report(connection: Connection) -> Report:
    """What was changed, read from what the adoption has left."""
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
    """How many there are, and the first of them."""
    counted = text(f"SELECT count(*) FROM ({ids.text}) AS found")  # noqa: S608 - our own words
    return {
        "count": connection.scalar(counted),
        "first": list(connection.scalars(text(f"{ids.text} LIMIT {SAMPLE}"))),
    }


def _upgrade(look: Callable[[Connection], None]) -> None:
    """Migrate, and have a look before the commit."""
    config = _config()
    config.attributes["at_the_end"] = look
    command.upgrade(config, "head")


def _config() -> Config:
    config: Config = current_app.extensions[MIGRATE].migrate.get_config()
    return config
