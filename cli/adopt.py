"""`flask adopt`: take over an existing installation and report the changes, as text or JSON."""

import json
from collections.abc import Iterator
from dataclasses import asdict

import click
from alembic.util import CommandError
from flask import Flask
from sqlalchemy.exc import SQLAlchemyError

from cli import adoption
from cli.adoption import Report
from cli.database_errors import explain
from core.database import use_direct_connection
from migrations.inspection import AdoptionRefusedError

REASONS = {
    "history": "it has months or feedback",
    "used": "other rows refer to it",
    "older": "it is older",
    "first": "it has the lower id",
}


def register(app: Flask) -> None:
    """Add the command to `flask`."""
    app.cli.add_command(adopt)


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
        report = _adopt(is_dry=dry_run) if adoption.needs_adoption() else _past_report()
    except AdoptionRefusedError as err:
        if as_json:
            click.echo(json.dumps({"problems": [asdict(problem) for problem in err.problems]}))
        raise click.ClickException(f"nothing was changed: {err}") from err
    except SQLAlchemyError as err:
        raise click.ClickException(f"nothing was changed: {explain(err)}") from err
    except (RuntimeError, CommandError) as err:
        first_line = str(err).splitlines()[0]
        raise click.ClickException(f"nothing was changed: {first_line}") from err
    if as_json:
        click.echo(json.dumps(report.as_json(), ensure_ascii=False))
    else:
        click.echo("\n".join(_lines(report)))


def _adopt(*, is_dry: bool) -> Report:
    return adoption.dry_run_adoption() if is_dry else adoption.adopt()


def _past_report() -> Report:
    report = adoption.past_report()
    if report is None:
        similar = ", ".join(adoption.similar_tables())
        hint = f"; there are {similar}: set search_path, or rename them" if similar else ""
        raise click.ClickException(
            f"there is no other program's installation in this database{hint}"
        )
    return report


def _lines(report: Report) -> Iterator[str]:
    yield from report.changes
    yield f"{len(report.decisions)} profiles are archived in favour of another one of the same user"
    for decision in report.decisions:
        yield (
            "  person {user_id}: {keeper_id} stays, {loser_id} goes, ".format(**decision)
            + f"because {REASONS[decision['why']]}"
        )
    for table, number in report.moved.items():
        yield f"  {number} rows of {table} follow the profile that stays"
    yield f"{len(report.conflicts)} rows conflicted with one of that profile and are archived"
    for conflict in report.conflicts:
        yield "  {table}: row {id} of {from} in favour of {kept}".format(**conflict)
    yield f"{len(report.ambiguous_addresses)} addresses have several profiles without owner"
    for shared in report.ambiguous_addresses:
        yield f"  {shared['address']}: {', '.join(map(str, shared['mentorado_ids']))}"
    yield f"{report.pre_registered['count']} pre-registered profiles have no user yet"
    yield f"{report.without_profile['count']} users without profile, for the first sweep"
    naive = ", ".join(f"{table}.{name}" for table, names in report.times.items() for name in names)
    yield f"times read as UTC from now on: {naive or 'none'}"
    counts = ", ".join(f"{number} {table}" for table, number in report.rows.items())
    yield f"kept or archived, none lost: {counts}; revenue {report.revenue}"
