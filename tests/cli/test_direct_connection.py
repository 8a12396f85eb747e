"""Migrations and adoption bypass a pooler by DATABASE_URL_UNPOOLED."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask

from tests.support.apps import create_app_on

POOLER = "postgresql://nobody@127.0.0.1:1/none"


@pytest.fixture
def app(new_database: Callable[[str], str], tmp_path: Path) -> Iterator[Flask]:
    """An app whose pooler is not reachable, with a direct connection to an empty database."""
    url = new_database(f"direct_{tmp_path.name}")
    with create_app_on(tmp_path, POOLER, database_url_unpooled=url) as app:
        yield app


def test_migrations_use_the_direct_connection(app: Flask) -> None:
    result = app.test_cli_runner().invoke(args=["db", "upgrade"])

    assert (result.exit_code, result.exception) == (0, None)


def test_adoption_uses_the_direct_connection(app: Flask) -> None:
    result = app.test_cli_runner().invoke(args=["adopt", "--dry-run"])

    assert "there is no other program's installation in this database" in result.output


def test_other_commands_use_the_pooler(app: Flask) -> None:
    result = app.test_cli_runner().invoke(args=["auto-create", "status"])

    assert (result.exit_code, "127.0.0.1:1" in result.output) == (1, True)
