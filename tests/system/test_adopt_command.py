"""`flask adopt` reports the changes in a dry run, applies them, and reports the same again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskCliRunner
from flask_migrate import upgrade

from benchmarks.databases import connect_to
from tests.support.apps import create_app_on
from tests.support.legacy_installations import NewDatabase, install, rows, schema

REVENUE = 12345 + 15000 + 9000 + 9100 + 9900


@pytest.fixture
def url(new_database: NewDatabase, tmp_path: Path) -> str:
    return new_database(f"adopt_{tmp_path.name}")


@pytest.fixture
def runner(url: str, tmp_path: Path) -> Iterator[FlaskCliRunner]:
    with create_app_on(tmp_path, url) as app:
        yield app.test_cli_runner()


@pytest.fixture
def legacy(runner: FlaskCliRunner, url: str) -> str:
    """A database with the tables and rows of a legacy installation."""
    install(url)
    return url


def report(runner: FlaskCliRunner, *options: str) -> Any:
    return json.loads(runner.invoke(args=["adopt", "--json", *options]).stdout)


def test_dry_run_changes_nothing(runner: FlaskCliRunner, legacy: str) -> None:
    before = (schema(legacy), rows(legacy))

    report(runner, "--dry-run")

    assert (schema(legacy), rows(legacy)) == before


def test_reports_before_and_after_the_adoption_are_equal(
    runner: FlaskCliRunner, legacy: str
) -> None:
    before, after = report(runner, "--dry-run"), report(runner)

    assert before == after == report(runner) == report(runner, "--dry-run")


def test_report_lists_changes_with_their_reasons(runner: FlaskCliRunner, legacy: str) -> None:
    result = report(runner, "--dry-run")

    assert [(d["loser_id"], d["keeper_id"], d["why"]) for d in result["decisions"]] == [
        (10, 11, "history"),
        (12, 11, "history"),
        (14, 13, "older"),
    ]
    assert result["moved"] == {"interacoes": 2, "metricas_mensais": 1}
    assert [(c["table"], c["id"], c["from"]) for c in result["conflicts"]] == [
        ("atividade_progress", 1, 10),
        ("diagnosticos", 1, 10),
        ("metricas_mensais", 4, 14),
    ]
    shared = {"address": "eva@example.com", "mentorado_ids": [15, 16]}
    assert result["ambiguous_addresses"] == [shared]


def test_report_counts_rows_and_users_without_profile(runner: FlaskCliRunner, legacy: str) -> None:
    result = report(runner)

    assert result["without_profile"] == {"count": 2, "first": [3, 5]}
    assert result["pre_registered"] == {"count": 3, "first": [15, 16, 17]}
    assert result["rows"] == {"users": 5, "mentorados": 8, "metricas_mensais": 5, "feedbacks": 2}
    assert result["revenue"] == REVENUE


def test_report_is_printed_as_text_by_default(runner: FlaskCliRunner, legacy: str) -> None:
    output = runner.invoke(args=["adopt", "--dry-run"]).output

    assert "person 1: 11 stays, 10 goes, because it has months or feedback" in output
    assert "eva@example.com: 15, 16" in output
    assert f"revenue {REVENUE}" in output


def test_doctor_recommends_the_adoption(runner: FlaskCliRunner, legacy: str) -> None:
    before = runner.invoke(args=["doctor"]).output
    runner.invoke(args=["adopt"])

    assert "flask adopt --dry-run" in before
    assert "migrations     at head" in runner.invoke(args=["doctor"]).output


def test_upgrade_tells_of_the_adoption(runner: FlaskCliRunner, legacy: str) -> None:
    result = runner.invoke(args=["db", "upgrade"])

    assert "Running the adoption of existing tables: flask adopt --json" in result.stderr


def test_database_of_this_program_is_not_adopted(runner: FlaskCliRunner, url: str) -> None:
    upgrade()

    result = runner.invoke(args=["adopt"])

    assert (result.exit_code, "no other program's installation" in result.output) == (1, True)


def test_obstacle_is_reported_in_one_line(runner: FlaskCliRunner, legacy: str) -> None:
    with connect_to(legacy) as connection:
        connection.exec_driver_sql(
            "CREATE UNIQUE INDEX odd ON interacoes (mentorado_id, lower(notas))"
        )

    result = runner.invoke(args=["adopt"])

    assert result.exit_code == 1
    assert "nothing was changed: interacoes has a unique index of expressions" in result.output


def test_error_in_the_last_migration_rolls_everything_back(
    runner: FlaskCliRunner, legacy: str
) -> None:
    before = (schema(legacy), rows(legacy))
    with connect_to(legacy) as connection:
        connection.exec_driver_sql("CREATE TABLE sweep_totals (id integer)")

    result = runner.invoke(args=["adopt"])

    assert "nothing was changed" in result.output
    assert rows(legacy) == before[1]
