"""Commands with an unusable database print one line that names it, and never a traceback."""

from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import make_url

from benchmarks.databases import connect_to
from tests.support.apps import create_app_on

PASSWORD = "hush-0123456789"
UNREACHABLE_URL = f"postgresql+psycopg2://bia:{PASSWORD}@127.0.0.1:1/nowhere"
# Arguments of the commands that need some.
ARGUMENTS = {
    "admin grant": ["ana@example.com"],
    "admin revoke": ["ana@example.com"],
    "auto-create": ["off"],
    "token": ["user_x", "--admin"],
    "person show": ["ana@example.com"],
    "person export": ["ana@example.com"],
    "person erase": ["ana@example.com"],
    "db downgrade": ["base"],
    "db stamp": ["base"],
}
# Commands that do not use the database, or that write migrations into the project.
WITHOUT_DATABASE = {
    "cache clear",
    "config",
    "db branches",
    "db edit",
    "db heads",
    "db history",
    "db init",
    "db list-templates",
    "db merge",
    "db migrate",
    "db revision",
    "db show",
}
LEGACY = Path(__file__).parent.parent / "legacy" / "schema.sql"


def commands_of(group: click.Group, prefix: str = "") -> Iterator[str]:
    for name in group.list_commands(click.Context(group)):
        command = group.commands[name]
        if isinstance(command, click.Group):
            yield from commands_of(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}"


@pytest.fixture(scope="module")
def unreachable_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """An app with an unreachable database."""
    with create_app_on(tmp_path_factory.mktemp("away"), UNREACHABLE_URL) as app:
        yield app


@pytest.fixture(scope="module")
def commands(unreachable_app: Flask) -> list[str]:
    """All commands that use the database."""
    return sorted(set(commands_of(unreachable_app.cli)) - WITHOUT_DATABASE)


def run(app: Flask, command: str) -> Result:
    return app.test_cli_runner().invoke(args=[*command.split(), *ARGUMENTS.get(command, [])])


def fault_of(result: Result, message: str) -> str | None:
    """Return what is wrong with the command's output, None if it is one line with these words."""
    lines = [line for line in result.stderr.splitlines() if "[warning" not in line]
    if result.exit_code != 1 or isinstance(result.exception, Exception):
        return f"exit {result.exit_code}: {result.exception!r} {result.output}"
    output = "\n".join(lines) + result.stdout
    if message not in output or "Traceback" in output or PASSWORD in output:
        return output
    return None if len(lines) <= 1 else f"more than a line: {lines}"


def faults_of(app: Flask, commands: list[str], message: str) -> dict[str, str]:
    faults = {command: fault_of(run(app, command), message) for command in commands}
    return {command: output for command, output in faults.items() if output is not None}


def test_error_names_an_unreachable_database(unreachable_app: Flask, commands: list[str]) -> None:
    message = "database nowhere on 127.0.0.1:1 cannot be reached: Connection refused"

    ignored = {"scheduler"}  # starts and waits for the database
    assert faults_of(unreachable_app, [c for c in commands if c not in ignored], message) == {}


def test_error_names_a_database_without_migrations(
    tmp_path: Path, new_database: Callable[[str], str], commands: list[str]
) -> None:
    url = new_database(f"empty_{tmp_path.name}")
    message = f"database {make_url(url).database} on "

    with create_app_on(tmp_path, url) as app:
        tested = [c for c in commands if not c.startswith("db ") and c not in ("adopt", "demo")]
        assert faults_of(app, tested, message) == {}
        assert faults_of(app, ["sweep", "scheduler", "doctor"], "run flask db upgrade") == {}


def test_error_names_a_database_of_another_program(
    tmp_path: Path, new_database: Callable[[str], str], commands: list[str]
) -> None:
    url = new_database(f"foreign_{tmp_path.name}")
    with connect_to(url) as other:
        other.exec_driver_sql(LEGACY.read_text().replace("%", "%%"))
    message = "belongs to another program: run flask adopt --dry-run"

    with create_app_on(tmp_path, url) as app:
        tested = [c for c in commands if not c.startswith("db ") and c != "adopt"]
        assert faults_of(app, tested, message) == {}


def test_error_names_a_read_only_database(
    tmp_path: Path, copy_database: Callable[[str], str], commands: list[str]
) -> None:
    name = f"read_only_{tmp_path.name}"
    url = copy_database(name)
    with connect_to(url) as other:
        other.exec_driver_sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    message = f"database {name} on {make_url(url).query['host']} is read-only"

    with create_app_on(tmp_path, url) as app:
        read_only_commands = {"db current", "db check", "adopt", "scheduler", "db upgrade", "demo"}
        tested = [c for c in commands if c not in read_only_commands]
        assert faults_of(app, tested, message) == {}


# What makes a migrated database unusable.
UNKNOWN_REVISION = "UPDATE alembic_version SET version_num = '9999'"
WITHOUT_RIGHTS = """
CREATE ROLE "{role}" LOGIN; GRANT CONNECT ON DATABASE "{name}" TO "{role}";
REVOKE ALL ON SCHEMA public FROM PUBLIC
"""


@pytest.fixture
def unusable_databases(
    tmp_path: Path, new_database: Callable[[str], str], copy_database: Callable[[str], str]
) -> dict[str, str]:
    """The URLs of databases that commands cannot work on; adopting one is left out."""
    name = tmp_path.name
    urls = {"unreachable": UNREACHABLE_URL, "empty": new_database(f"{name}_empty")}
    urls["missing"] = make_url(urls["empty"]).set(database="missing").render_as_string()
    for state in ("newer", "restricted"):
        urls[state] = copy_database(f"{name}_{state}")
    with connect_to(urls["newer"]) as other:
        other.exec_driver_sql(UNKNOWN_REVISION)
    with connect_to(urls["restricted"]) as other:
        names = {"role": f"{name}_role", "name": make_url(urls["restricted"]).database}
        other.exec_driver_sql(WITHOUT_RIGHTS.format(**names))
    role_url = make_url(urls["restricted"]).set(username=f"{name}_role")
    return {**urls, "restricted": role_url.render_as_string()}


def test_doctor_warns_about_a_database_of_a_newer_version(
    tmp_path: Path, copy_database: Callable[[str], str]
) -> None:
    url = copy_database(f"newer_{tmp_path.name}")
    with connect_to(url) as other:
        other.exec_driver_sql(UNKNOWN_REVISION)
    with create_app_on(tmp_path, url) as app:
        result = run(app, "doctor")

    line = "warn  migrations     at 9999, by a newer version of this program: update this host"
    assert (result.exit_code, line in result.output) == (0, True)


def test_no_command_prints_a_traceback(
    tmp_path: Path, unusable_databases: dict[str, str], commands: list[str]
) -> None:
    migrating = {"adopt", "db downgrade", "db stamp", "db upgrade", "demo"}
    faults = {}
    for state, url in unusable_databases.items():
        with create_app_on(tmp_path, url) as app:
            can_migrate = state in ("missing", "newer")
            tested = [c for c in commands if can_migrate or c not in migrating]
            for command in set(tested) - {"scheduler"}:  # it waits for the database
                result = run(app, command)
                is_named = result.exit_code == 0 or str(make_url(url).database) in result.output
                if isinstance(result.exception, Exception) or not is_named:
                    faults[state, command] = f"{result.exception!r}: {result.output}"
                elif "Traceback" in result.output or PASSWORD in result.output:
                    faults[state, command] = result.output

    assert faults == {}
