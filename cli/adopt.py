"""`flask adopt`: take over an existing installation and report the changes, as text or JSON.

1. `needs_adoption` tells whether the database belongs to another program.
2. `take_over` runs the migrations in the one transaction that `migrations/env.py` opens. They
   compare the tables, adapt them, and try the program's writes (`adoption_trial.py`).
3. Before the commit, `read_report` reads what was changed. A dry run is rolled back here, so that
   its report cannot differ from that of the real run.
4. Later calls print the report of that run.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import click
from alembic import command
from alembic.util import CommandError
from sqlalchemy import Connection, TextClause, text
from sqlalchemy.exc import SQLAlchemyError

from cli.installation import explain, migration_config, needs_adoption
from core.database import db, use_direct_connection
from migrations import inspection
from migrations.inspection import AdoptionRefusedError

REASONS = {
    "history": "it has months or feedback",
    "used": "other rows refer to it",
    "older": "it is older",
    "first": "it has the lower id",
}

BUSINESS = ("users", "mentorados", "metricas_mensais", "feedbacks")
SAMPLE = 20

CONFLICTS = text("""
    SELECT table_name AS "table", content -> 'id' AS id, mentorado_id AS "from",
           kept_mentorado_id AS kept
      FROM archived_rows WHERE reason = 'adoption' AND table_name <> 'mentorados'
     ORDER BY table_name, mentorado_id, content::text
""")
MOVED = text("""
    SELECT table_name, count(*) FROM archived_rows
     WHERE reason = 'adoption: moved' GROUP BY table_name ORDER BY table_name
""")
AMBIGUOUS = text("""
    SELECT normalized_address(email) AS address, jsonb_agg(id ORDER BY id) AS mentorado_ids
      FROM mentorados WHERE user_id IS NULL AND normalized_address(email) IS NOT NULL
     GROUP BY 1 HAVING count(*) > 1 ORDER BY 1
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


Report = dict[str, Any]


class DryRunError(Exception):
    """Raised at the end of a dry run, so that its transaction is rolled back."""


@click.command()
@click.option("--dry-run", is_flag=True, help="Make the changes, report them, and roll them back.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
def adopt(*, dry_run: bool, as_json: bool) -> None:
    """Take over the database of an existing installation.

    First compares its tables with what the program reads and writes. Missing parts are added. Any
    other difference is listed by table and column, with what to do, and nothing is changed
    (exit 1).

    Then migrates its tables in one transaction: if it is interrupted, nothing has changed. Each
    user keeps one profile. The other profiles are archived, and `flask db downgrade base` restores
    them. Unknown tables stay as they are; their rows follow the profile that is kept.

    \b
      flask adopt --dry-run           reports the changes; locks the tables meanwhile
      flask adopt                     makes the changes and reports them
      flask adopt --json              afterwards: reports what was changed
    """
    use_direct_connection()
    try:
        report = take_over(is_dry=dry_run) if needs_adoption() else _earlier_report()
    except AdoptionRefusedError as err:
        if as_json:
            click.echo(json.dumps({"problems": [asdict(problem) for problem in err.problems]}))
        raise click.ClickException(f"nothing was changed: {err}") from err
    except (SQLAlchemyError, RuntimeError, CommandError) as err:
        is_of_database = isinstance(err, SQLAlchemyError)
        reason = explain(err) if is_of_database else str(err).splitlines()[0]
        raise click.ClickException(f"nothing was changed: {reason}") from err
    if as_json:
        click.echo(json.dumps(report, ensure_ascii=False))
    else:
        click.echo("\n".join(_lines(report)))


def _earlier_report() -> Report:
    """Return the report of an earlier take-over; raises ClickException if there was none."""
    with db.engine.connect() as connection:
        has_table = connection.scalar(text("SELECT to_regclass('adoptions') IS NOT NULL"))
        if has_table and connection.scalar(text("SELECT EXISTS (SELECT 1 FROM adoptions)")):
            return read_report(connection)
        similar = ", ".join(inspection.similar_tables(connection))
    hint = f"; there are {similar}: set search_path, or rename them" if similar else ""
    raise click.ClickException(f"there is no other program's installation in this database{hint}")


def _lines(report: Report) -> Iterator[str]:
    yield from report["changes"]
    decisions, times = report["decisions"], report["times"]
    yield f"{len(decisions)} profiles are archived in favour of another one of the same user"
    for each in decisions:
        fate = "  person {user_id}: {keeper_id} stays, {loser_id} goes".format(**each)
        yield f"{fate}, because {REASONS[each['why']]}"
    for table, number in report["moved"].items():
        yield f"  {number} rows of {table} follow the profile that stays"
    yield f"{len(report['conflicts'])} rows conflicted with one of that profile and are archived"
    for conflict in report["conflicts"]:
        yield "  {table}: row {id} of {from} in favour of {kept}".format(**conflict)
    yield f"{len(report['ambiguous_addresses'])} addresses have several profiles without owner"
    for shared in report["ambiguous_addresses"]:
        yield f"  {shared['address']}: {', '.join(map(str, shared['mentorado_ids']))}"
    yield f"{report['pre_registered']['count']} pre-registered profiles have no user yet"
    yield f"{report['without_profile']['count']} users without profile, for the first sweep"
    naive = ", ".join(f"{table}.{name}" for table, names in times.items() for name in names)
    yield f"times read as UTC from now on: {naive or 'none'}"
    counts = ", ".join(f"{number} {table}" for table, number in report["rows"].items())
    yield f"kept or archived, none lost: {counts}; revenue {report['revenue']}"


def take_over(*, is_dry: bool) -> Report:
    """Take over the installation in one transaction; a dry run is rolled back after its report.

    The tables are locked meanwhile. Raises AdoptionRefusedError for an installation that cannot be
    taken over, and the errors of the migrations; then nothing is changed.
    """
    reports: list[Report] = []

    def read_before_commit(connection: Connection) -> None:
        reports.append(read_report(connection))
        if is_dry:
            raise DryRunError

    config = migration_config()
    config.attributes["at_the_end"] = read_before_commit
    with suppress(DryRunError):
        command.upgrade(config, "head")
    return reports[0]


def read_report(connection: Connection) -> Report:
    """Read the changes of a take-over, as ids and counts without the contents of rows.

    `changes` are those of the schema, apart from times and objects that every database gets.
    `decisions` name the profile that is kept and why: `history` (months or feedback), `used` (other
    rows refer to it), `older`, or `first` (the lower id).
    """
    facts = connection.scalar(text("SELECT facts FROM adoptions")) or {}
    return {
        "changes": [change["what"] for change in facts.get("changes", ())],
        "times": {table: facts[table] for table in BUSINESS if table in facts},
        "decisions": facts.get("decisions") or [],
        "moved": dict(connection.execute(MOVED).all()),
        "conflicts": [dict(row) for row in connection.execute(CONFLICTS).mappings()],
        "ambiguous_addresses": [dict(row) for row in connection.execute(AMBIGUOUS).mappings()],
        "without_profile": _counted(connection, WITHOUT_PROFILE),
        "pre_registered": _counted(connection, PRE_REGISTERED),
        "rows": {name: connection.scalar(text(COUNTED.format(table=name))) for name in BUSINESS},
        "revenue": int(connection.scalar(REVENUE) or 0),
    }


def _counted(connection: Connection, ids: TextClause) -> dict[str, Any]:
    """Return the number of ids and the first of them."""
    counted = text(f"SELECT count(*) FROM ({ids.text}) AS found")  # noqa: S608 - constants only
    return {
        "count": connection.scalar(counted),
        "first": list(connection.scalars(text(f"{ids.text} LIMIT {SAMPLE}"))),
    }
