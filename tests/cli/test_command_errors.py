"""Commands on a database that cannot be used: one line that names it, exit 1, no traceback."""

from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import make_url

from dev.databases import app_on, connect_to

PASSWORD = "hush-0123456789"
AWAY = f"postgresql+psycopg2://bia:{PASSWORD}@127.0.0.1:1/nowhere"
# What has to be typed after the name of a command that takes arguments.
ARGUMENTS = {
    "admin grant": ["ana@example.com"],
    "admin revoke": ["ana@example.com"],
    "auto-create": ["off"],
    "token": ["user_x", "--admin"],
    "db downgrade": ["base"],
    "db stamp": ["base"],
}
# These do not look at the database, or write migrations into the folder of the program.
FOR_DEVELOPERS = {
    *("db branches", "db edit", "db heads", "db history", "db init", "db list-templates"),
    *("db merge", "db migrate", "db revision", "db show"),
}
LEGACY = Path(__file__).parent.parent / "legacy" / "schema.sql"


def commands_of(group: click.Group, prefix: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands_of(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}"


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """An app whose database cannot be reached."""
    with app_on(tmp_path_factory.mktemp("away"), AWAY) as app:
        yield app


@pytest.fixture(scope="module")
def commands(away: Flask) -> list[str]:
    """All commands that have something to do with the database."""
    return sorted(set(commands_of(away.cli)) - FOR_DEVELOPERS)


def run(app: Flask, command: str) -> Result:
    return app.test_cli_runner().invoke(args=[*command.split(), *ARGUMENTS.get(command, [])])


def trouble(result: Result, words: str) -> str | None:
    """What is wrong with the command's report; None when it is one line with these words."""
    lines = [line for line in result.stderr.splitlines() if "[warning" not in line]
    if result.exit_code != 1 or isinstance(result.exception, Exception):
        return f"exit {result.exit_code}: {result.exception!r} {result.output}"
    said = "\n".join(lines) + result.stdout
    if words not in said or "Traceback" in said or PASSWORD in said:
        return said
    return None if len(lines) <= 1 else f"more than a line: {lines}"


def troubles(app: Flask, commands: list[str], words: str) -> dict[str, str]:
    found = {command: trouble(run(app, command), words) for command in commands}
    return {command: said for command, said in found.items() if said is not None}


def test_database_that_is_away_is_named(away: Flask, commands: list[str]) -> None:
    words = "database nowhere on 127.0.0.1:1 cannot be reached: Connection refused"

    waiting = {"scheduler"}  # serves as soon as the database is there
    assert troubles(away, [c for c in commands if c not in waiting], words) == {}


def test_database_that_is_not_migrated_is_named(
    tmp_path: Path, new_database: Callable[[str], str], commands: list[str]
) -> None:
    url = new_database(f"empty_{tmp_path.name}")
    words = f"database {make_url(url).database} on "

    with app_on(tmp_path, url) as app:
        left = [c for c in commands if not c.startswith("db ") and c not in ("adopt", "demo")]
        assert troubles(app, left, words) == {}
        assert troubles(app, ["sweep", "scheduler", "doctor"], "run flask db upgrade") == {}


def test_database_of_another_program_is_named(
    tmp_path: Path, new_database: Callable[[str], str], commands: list[str]
) -> None:
    url = new_database(f"foreign_{tmp_path.name}")
    with connect_to(url) as other:
        other.exec_driver_sql(LEGACY.read_text().replace("%", "%%"))
    words = "belongs to another program: run flask adopt --dry-run"

    with app_on(tmp_path, url) as app:
        left = [c for c in commands if not c.startswith("db ") and c != "adopt"]
        assert troubles(app, left, words) == {}


def test_read_only_database_is_named(
    tmp_path: Path, copy_database: Callable[[str], str], commands: list[str]
) -> None:
    name = f"read_only_{tmp_path.name}"
    url = copy_database(name)
    with connect_to(url) as other:
        other.exec_driver_sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    words = f"database {name} on {make_url(url).query['host']} is read-only"

    with app_on(tmp_path, url) as app:
        reading = {"db current", "db check", "adopt", "scheduler", "db upgrade", "demo"}
        left = [c for c in commands if c not in reading]
        assert troubles(app, left, words) == {}
