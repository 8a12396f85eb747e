"""Migrations on real PostgreSQL: up, down, up again, and equal to the models."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask import Flask
from flask_migrate import downgrade, upgrade
from sqlalchemy import text

from extensions import db
from tests.databases import app_on

LEFT_BEHIND = text("""
    SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace
    UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
""")
# The rehearsal gave nobody a profile, and the last one is still on.
RUNS = text("""
    INSERT INTO sweep_runs (trigger, status, dry_run, created, linked) VALUES
    ('clock', 'succeeded', false, 2, 1), ('clock', 'succeeded', true, 5, 0),
    ('clock', 'failed', false, 0, 0), ('clock', 'running', false, 9, 0)
""")
UNNAMED = text("""
    SELECT conname FROM pg_constraint JOIN pg_class t ON t.oid = conrelid
     WHERE t.relnamespace = 'public'::regnamespace AND contype IN ('p', 'u', 'f', 'c')
       AND conname !~ ('^' || t.relname || '_.*(pkey|key|fkey|check)$')
       AND conname <> t.relname || '_pkey'
       AND t.relname <> 'alembic_version'
""")


@pytest.fixture
def empty(new_database: Callable[[str], str], tmp_path: Path) -> Iterator[Flask]:
    """An app on a database in which nothing has happened yet."""
    with app_on(tmp_path, new_database(f"empty_{tmp_path.name}")) as app:
        yield app


def left_behind() -> list[str]:
    with db.engine.connect() as connection:
        return list(connection.scalars(LEFT_BEHIND))


def test_downgrade_leaves_nothing(empty: Flask) -> None:
    upgrade()

    downgrade(revision="base")

    assert left_behind() == []


def test_way_down_and_up_again_is_open(empty: Flask) -> None:
    upgrade()
    before = left_behind()
    downgrade(revision="base")

    upgrade()

    assert sorted(left_behind()) == sorted(before)


def test_second_upgrade_changes_nothing(empty: Flask) -> None:
    upgrade()
    before = left_behind()

    upgrade()

    assert left_behind() == before


def test_sweeps_of_before_are_added_up(empty: Flask) -> None:
    upgrade(revision="0007")
    with db.engine.begin() as connection:
        connection.execute(RUNS)

    upgrade()

    with db.engine.connect() as connection:
        asked = text("SELECT status, runs, repaired FROM sweep_totals WHERE trigger = 'clock'")
        found = sorted(map(tuple, connection.execute(asked)))
    assert found == [("failed", 1, 0), ("succeeded", 2, 3)]


def test_models_and_migrations_are_equal(empty: Flask) -> None:
    upgrade()

    with db.engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, db.metadata) == []


def test_constraints_are_named_by_convention(empty: Flask) -> None:
    upgrade()

    with db.engine.connect() as connection:
        assert list(connection.scalars(UNNAMED)) == []


def test_old_program_s_inserts_still_work(empty: Flask) -> None:
    upgrade()

    with db.engine.begin() as connection:
        connection.execute(text("INSERT INTO users (clerk_id) VALUES ('user_old')"))
        connection.execute(
            text("INSERT INTO mentorados (nome_completo, turma) VALUES ('Antiga', 'neon')")
        )
        assert connection.scalar(text("SELECT created_automatically FROM mentorados")) is False


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("  Eva@Example.COM\t", "eva@example.com"),
        ("ｅｖａ@example.com", "eva@example.com"),
        (" ", None),
        (None, None),
    ],
)
def test_address_is_normalised_by_one_rule(
    app: Flask, given: str | None, expected: str | None
) -> None:
    with app.app_context(), db.engine.connect() as connection:
        found = connection.scalar(text("SELECT normalized_address(:a)"), {"a": given})

    assert found == expected


def test_search_by_address_uses_the_index(app: Flask) -> None:
    query = "SELECT id FROM mentorados WHERE user_id IS NULL AND normalized_address(email) = 'a'"
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = "\n".join(connection.scalars(text(f"EXPLAIN {query}")))

    assert "mentorados_unlinked_email_idx" in plan
