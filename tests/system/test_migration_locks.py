"""What the migrations lock in an installation that people are using, and for how long."""

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
from dev.databases import app_on
from dev.legacy_installations import NewDatabase, install, scalars

FILES = """
SELECT relname || ' ' || pg_relation_filenode(oid) FROM pg_class
 WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY relname
"""
# What squawk finds in a take-over, each with the reason why it stays.
ACCEPTED = {
    "changing-column-type": "naive times become UTC in a session in UTC: nothing is rewritten",
    "constraint-missing-not-valid": "one look at rows of which a person has twelve a year",
    "require-concurrent-index-creation": "one transaction, so that a kill changes nothing",
    "require-concurrent-index-deletion": "indexes that the same transaction has made",
    "ban-drop-table": "temporary tables of the same transaction",
    "ban-drop-function": "the function that compared addresses before, without users by then",
    "renaming-object": "a function and its indexes make room within the same transaction",
    "ban-drop-constraint": "a rule that a weaker one takes the place of, on a new table",
    "prefer-bigint-over-int": "ids and counts have the types of the existing installation",
    "prefer-identity": "as above",
    "prefer-text-field": "as above",
    "require-lock-timeout": "env.py sets it, by set_config, which squawk does not see",
    "require-statement-timeout": "nobody waits for it but whoever has typed it; locks time out",
}


@pytest.fixture
def url(new_database: NewDatabase, tmp_path: Path) -> str:
    """The other program's installation."""
    url = new_database(f"locks_{tmp_path.name}")
    install(url)
    return url


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    with app_on(tmp_path, url) as app:
        yield app


@pytest.fixture
def said(app: Flask) -> list[str]:
    """What is said to the database from now on."""
    said: list[str] = []

    @event.listens_for(db.engine, "before_cursor_execute")
    def note(_: object, __: object, statement: str, *___: object) -> None:
        said.append(f"{statement.strip().rstrip(';')};")

    return said


def findings(path: Path, *options: str) -> set[str]:
    linter = str(Path(sys.executable).with_name("squawk"))
    command = [linter, "--assume-in-transaction", "--reporter", "Json", *options, str(path)]
    told = subprocess.run(command, check=False, capture_output=True, text=True)
    return {found["rule_name"] for found in json.loads(told.stdout)}


def test_statements_that_lock_are_known_and_have_their_reason(
    said: list[str], tmp_path: Path
) -> None:
    upgrade()
    shaping = [s for s in said if s.split()[0] in ("ALTER", "CREATE", "DROP")]
    path = tmp_path / "statements.sql"
    path.write_text("\n".join(shaping))

    assert len(shaping) > 50
    assert findings(path) == set(ACCEPTED)


def test_no_table_is_rewritten(app: Flask, url: str) -> None:
    before = scalars(url, FILES)

    upgrade()

    assert set(before) - set(scalars(url, FILES)) == set()


def test_nobody_is_kept_waiting_behind_a_lock_for_long(said: list[str]) -> None:
    upgrade()

    first_change = next(i for i, s in enumerate(said) if s.startswith(("ALTER", "CREATE")))
    assert any("'lock_timeout'" in statement for statement in said[:first_change])
