"""Locks of the migrations in an installation in use."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask_migrate import upgrade
from sqlalchemy import event

from core.database import db
from tests.support.apps import create_app_on
from tests.support.legacy_installations import NewDatabase, install, scalars

FILES = """
SELECT relname || ' ' || pg_relation_filenode(oid) FROM pg_class
 WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY relname
"""
# Findings of squawk in an adoption, each with the reason why it is accepted.
ACCEPTED = {
    "changing-column-type": "naive times become UTC in a session in UTC, without a rewrite",
    "constraint-missing-not-valid": "one scan of a table with twelve rows for each user and year",
    "require-concurrent-index-creation": "one transaction, so that a kill changes nothing",
    "require-concurrent-index-deletion": "indexes that the same transaction has created",
    "ban-drop-default": "the default of a new column marks the existing rows, without a rewrite",
    "ban-drop-table": "temporary tables of the same transaction",
    "ban-drop-function": "the old function that compared addresses, which is not used any more",
    "renaming-object": "a function and its indexes are replaced within the same transaction",
    "ban-drop-constraint": "a constraint on a new table is replaced by a weaker one",
    "prefer-bigint-over-int": "ids and counts have the types of the legacy installation",
    "prefer-identity": "as above",
    "prefer-text-field": "as above",
    "require-lock-timeout": "env.py sets it, by set_config, which squawk does not see",
    "require-statement-timeout": "only the operator waits for the command; locks time out",
}


@pytest.fixture
def url(new_database: NewDatabase, tmp_path: Path) -> str:
    """The URL of a legacy installation."""
    url = new_database(f"locks_{tmp_path.name}")
    install(url)
    return url


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    with create_app_on(tmp_path, url) as app:
        yield app


@pytest.fixture
def executed(app: Flask) -> list[str]:
    """The statements that are executed from now on."""
    executed: list[str] = []

    @event.listens_for(db.engine, "before_cursor_execute")
    def record(_: object, __: object, statement: str, *___: object) -> None:
        executed.append(f"{statement.strip().rstrip(';')};")

    return executed


def findings(path: Path, *options: str) -> set[str]:
    linter = str(Path(sys.executable).with_name("squawk"))
    command = [linter, "--assume-in-transaction", "--reporter", "Json", *options, str(path)]
    completed = subprocess.run(command, check=False, capture_output=True, text=True)
    return {found["rule_name"] for found in json.loads(completed.stdout)}


def test_linter_finds_only_the_accepted_statements(executed: list[str], tmp_path: Path) -> None:
    upgrade()
    schema_changes = [s for s in executed if s.split()[0] in ("ALTER", "CREATE", "DROP")]
    path = tmp_path / "statements.sql"
    path.write_text("\n".join(schema_changes))

    assert len(schema_changes) > 50
    assert findings(path) == set(ACCEPTED)


def test_no_table_is_rewritten(app: Flask, url: str) -> None:
    before = scalars(url, FILES)

    upgrade()

    assert set(before) - set(scalars(url, FILES)) == set()


def test_lock_timeout_is_set_before_the_first_change(executed: list[str]) -> None:
    upgrade()

    first_change = next(i for i, s in enumerate(executed) if s.startswith(("ALTER", "CREATE")))
    assert any("'lock_timeout'" in statement for statement in executed[:first_change])
