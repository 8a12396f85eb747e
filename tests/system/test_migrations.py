"""Migrations on PostgreSQL: upgrade, downgrade, and equality with the models."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from flask import Flask
from flask_migrate import downgrade, upgrade
from sqlalchemy import text

from benchmarks.servers import PROJECT
from core.database import db
from tests.support.apps import create_app_on

OBJECTS = text("""
    SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace
    UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
""")
# The second run is a dry run, which created no profile; the last one is still running.
RUNS = text("""
    INSERT INTO sweep_runs (trigger, status, dry_run, created, linked) VALUES
    ('clock', 'succeeded', false, 2, 1), ('clock', 'succeeded', true, 5, 0),
    ('clock', 'failed', false, 0, 0), ('clock', 'running', false, 9, 0)
""")
# The first user owns the profile of another mailbox, because both addresses once compared equal.
FULL_WIDTH_USERS = """
    INSERT INTO users (id, clerk_id, email, email_verified) VALUES
    (1, 'a', 'ａna@x.com', true), (2, 'b', 'Ana@x.com', true), (3, 'c', 'ａna@x.com', false),
    (4, 'd', 'eva@bücher.de', true)
"""
FULL_WIDTH_PROFILES = """
    INSERT INTO mentorados (id, user_id, nome_completo, turma, email) VALUES
    (1, 1, 'Ana', 'neon', 'ana@x.com'), (2, NULL, 'Ana', 'neon', 'anａ@x.com'),
    (3, NULL, 'Ana', 'neon', 'ana@x.com'), (4, NULL, 'Eva', 'neon', 'eva@xn--bcher-kva.de'),
    (5, 2, 'Ana', 'neon', 'ana@x.com')
"""
UNNAMED = text("""
    SELECT conname FROM pg_constraint JOIN pg_class t ON t.oid = conrelid
     WHERE t.relnamespace = 'public'::regnamespace AND contype IN ('p', 'u', 'f', 'c')
       AND conname !~ ('^' || t.relname || '_.*(pkey|key|fkey|check)$')
       AND conname <> t.relname || '_pkey'
       AND t.relname <> 'alembic_version'
""")


@pytest.fixture
def empty(new_database: Callable[[str], str], tmp_path: Path) -> Iterator[Flask]:
    """An app on an empty database without migrations."""
    with create_app_on(tmp_path, new_database(f"empty_{tmp_path.name}")) as app:
        yield app


def objects() -> list[str]:
    with db.engine.connect() as connection:
        return list(connection.scalars(OBJECTS))


def test_downgrade_drops_all_objects(empty: Flask) -> None:
    upgrade()

    downgrade(revision="base")

    assert objects() == []


def test_upgrade_after_a_downgrade_creates_the_same_objects(empty: Flask) -> None:
    upgrade()
    before = objects()
    downgrade(revision="base")

    upgrade()

    assert sorted(objects()) == sorted(before)


def test_second_upgrade_changes_nothing(empty: Flask) -> None:
    upgrade()
    before = objects()

    upgrade()

    assert objects() == before


def run(app: Flask, *command: str) -> str:
    result = app.test_cli_runner().invoke(args=["db", *command])
    assert result.exit_code == 0, result.output
    return result.stdout


def execute_script(script: str) -> None:
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(script.replace("%", "%%"))


def test_current_of_an_empty_database_is_nothing(empty: Flask) -> None:
    assert run(empty, "current") == ""
    assert objects() == []


def test_migrations_are_named_as_they_run(empty: Flask) -> None:
    upgrade(revision="0001")

    result = empty.test_cli_runner().invoke(args=["db", "upgrade", "0003"])

    steps, place = result.stderr.splitlines()[:-1], result.stderr.splitlines()[-1]
    assert [step[:29] for step in steps] == [
        "Running upgrade 0001 -> 0002,",
        "Running upgrade 0002 -> 0003,",
    ]
    assert place.startswith("(database ")


def test_unknown_revision_of_a_command_is_named(empty: Flask) -> None:
    upgrade(revision="0001")

    result = empty.test_cli_runner().invoke(args=["db", "upgrade", "nosuch"])

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: Can't locate revision identified by 'nosuch' (database")


def test_printed_statements_create_the_same_objects(empty: Flask) -> None:
    script = run(empty, "upgrade", "--sql")
    before = objects()
    execute_script(script)
    created = sorted(objects())
    downgrade(revision="base")
    upgrade()

    assert before == []
    assert created == sorted(objects())


def test_printed_range_of_statements_is_undone_by_its_reverse(empty: Flask) -> None:
    upgrade(revision="0008")
    before = objects()

    execute_script(run(empty, "upgrade", "0008:head", "--sql"))
    run(empty, "check")
    execute_script(run(empty, "downgrade", "head:0008", "--sql"))

    assert sorted(objects()) == sorted(before)


def test_index_is_created_concurrently_in_an_autocommit_block(empty: Flask) -> None:
    upgrade()
    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        with context.begin_transaction():
            connection.execute(text("INSERT INTO users (clerk_id) VALUES ('before')"))
            with context.autocommit_block():
                Operations(context).execute(
                    "CREATE INDEX CONCURRENTLY users_name_idx ON users (name)"
                )
            connection.execute(text("INSERT INTO users (clerk_id) VALUES ('after')"))
        connection.rollback()

    assert "users_name_idx" in objects()
    with db.engine.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM users")) == 2


def test_connection_has_transactions_again_after_autocommit(empty: Flask) -> None:
    upgrade()
    execute_script("VACUUM users")

    with db.engine.connect() as connection:
        connection.execute(text("INSERT INTO users (clerk_id) VALUES ('gone')"))
        connection.rollback()
        assert connection.scalar(text("SELECT count(*) FROM users")) == 0


def test_new_migration_has_the_given_number_and_follows_the_newest(
    empty: Flask, tmp_path: Path
) -> None:
    folder = tmp_path / "migrations"
    shutil.copytree(PROJECT / "migrations", folder)

    run(empty, "revision", "-d", str(folder), "--rev-id", "9999", "-m", "add a table")

    head = ScriptDirectory(str(PROJECT / "migrations")).get_current_head()
    content = (folder / "versions" / "9999_add_a_table.py").read_text()
    assert f"revision = '9999'\ndown_revision = '{head}'" in content.replace('"', "'")


def test_no_migration_is_written_for_equal_models(empty: Flask, tmp_path: Path) -> None:
    upgrade()
    folder = tmp_path / "migrations"
    shutil.copytree(PROJECT / "migrations", folder)
    before = sorted(path.name for path in (folder / "versions").glob("*.py"))

    run(empty, "migrate", "-d", str(folder))

    assert sorted(path.name for path in (folder / "versions").glob("*.py")) == before


def test_existing_sweep_runs_are_summed_up(empty: Flask) -> None:
    upgrade(revision="0007")
    with db.engine.begin() as connection:
        connection.execute(RUNS)

    upgrade()

    with db.engine.connect() as connection:
        query = text("SELECT status, runs, repaired FROM sweep_totals WHERE trigger = 'clock'")
        found = sorted(map(tuple, connection.execute(query)))
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


def test_inserts_of_the_legacy_program_still_work(empty: Flask) -> None:
    upgrade()

    with db.engine.begin() as connection:
        connection.execute(text("INSERT INTO users (clerk_id) VALUES ('user_old')"))
        connection.execute(
            text("INSERT INTO mentorados (nome_completo, turma) VALUES ('Antiga', 'neon')")
        )
        assert connection.scalar(text("SELECT created_automatically FROM mentorados")) is False


GOAL_CHANGES = (
    "UPDATE mentorados SET nome_completo = 'Ana Lima'",
    "UPDATE mentorados SET meta_leads = 60",
    "UPDATE mentorados SET meta_leads = 70, meta_posts = NULL",
)


def test_goals_before_the_first_unconfirmed_change_are_kept(empty: Flask) -> None:
    upgrade()
    kept = []
    with db.engine.begin() as connection:
        connection.execute(text("INSERT INTO users (id, clerk_id) VALUES (1, 'a')"))
        connection.execute(
            text("INSERT INTO mentorados (user_id, nome_completo, turma) VALUES (1, 'Ana', 'neon')")
        )
        for change in (*GOAL_CHANGES, "UPDATE mentorados SET previous_goals = NULL"):
            connection.execute(text(change))
            kept.append(connection.scalar(text("SELECT previous_goals FROM mentorados")))

    before = {
        "meta_faturamento": 16_000,
        "meta_leads": 50,
        "meta_procedimentos": 10,
        "meta_posts": 12,
        "meta_stories": 60,
    }
    assert kept == [None, before, before, None]


def test_goals_of_a_pre_registered_profile_are_not_kept(empty: Flask) -> None:
    upgrade()
    with db.engine.begin() as connection:
        connection.execute(
            text("INSERT INTO mentorados (nome_completo, turma) VALUES ('Ana', 'neon')")
        )
        connection.execute(text("UPDATE mentorados SET meta_leads = 60"))
        assert connection.scalar(text("SELECT previous_goals FROM mentorados")) is None


def test_feedback_from_before_the_upgrade_counts_as_read(empty: Flask) -> None:
    upgrade(revision="0018")
    insert = (
        "INSERT INTO feedbacks (mentorado_id, ano, mes, analise_mes, foco_proximo_mes,"
        " sugestao_mentor) VALUES (1, 2026, {}, 'a', 'f', 's')"
    )
    with db.engine.begin() as connection:
        connection.execute(
            text("INSERT INTO mentorados (id, nome_completo, turma) VALUES (1, 'Ana', 'neon')")
        )
        connection.execute(text(insert.format(1)))

    upgrade()

    with db.engine.begin() as connection:
        connection.execute(text(insert.format(2)))
        read = text("SELECT read_at >= updated_at FROM feedbacks ORDER BY mes")
        assert list(connection.scalars(read)) == [True, None]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("  Eva@Example.COM\t", "eva@example.com"),
        ("ｅｖａ@example.com", "ｅｖａ@example.com"),
        ("eva@bücher.de", "eva@xn--bcher-kva.de"),
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


def migrate_to_0015(*rows: str) -> None:
    """Migrate to the revision before the comparison by A-labels, and insert these rows."""
    upgrade(revision="0015")
    with db.engine.begin() as connection:
        for row in rows:
            connection.execute(text(row))


def found_by_index(key: str) -> list[int]:
    """Return the ids of users whose address has this key, found by the index."""
    query = text("SELECT id FROM users WHERE normalized_address(email) = :key ORDER BY id")
    with db.engine.begin() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        return list(connection.scalars(query, {"key": key}))


def test_upgrade_lists_pairs_whose_match_changes_by_their_ids(
    empty: Flask, capsys: pytest.CaptureFixture[str]
) -> None:
    migrate_to_0015(FULL_WIDTH_USERS, FULL_WIDTH_PROFILES)
    capsys.readouterr()

    upgrade()

    printed = capsys.readouterr().out
    assert [line.strip() for line in printed.splitlines()[1:]] == [
        "no longer one address: user 1 and mentorado 1",
        "no longer one address: user 1 and mentorado 2",
        "no longer one address: user 1 and mentorado 3",
        "no longer one address: user 1 and user 2",
        "no longer one address: user 2 and mentorado 2",
        "no longer one address: mentorado 2 and mentorado 3",
        "one address from now on: user 4 and mentorado 4",
    ]
    assert "@" not in printed


def test_upgrade_without_changed_matches_prints_nothing(
    empty: Flask, capsys: pytest.CaptureFixture[str]
) -> None:
    migrate_to_0015(
        "INSERT INTO users (clerk_id, email, email_verified) VALUES ('a', 'A@x.com', true)"
    )
    capsys.readouterr()

    upgrade()

    assert capsys.readouterr().out == ""


def test_indexes_hold_the_keys_of_the_current_function(empty: Flask) -> None:
    migrate_to_0015(FULL_WIDTH_USERS)
    found = [found_by_index("ana@x.com")]
    for change in (upgrade, lambda: downgrade(revision="0015")):
        change()
        found.append(found_by_index("ana@x.com"))

    assert found == [[1, 2, 3], [2], [1, 2, 3]]


def test_missing_index_is_created_again(empty: Flask) -> None:
    migrate_to_0015("DROP INDEX users_normalized_email_idx")

    upgrade()

    assert "users_normalized_email_idx" in objects()


def test_search_by_address_uses_the_index(app: Flask) -> None:
    query = "SELECT id FROM mentorados WHERE user_id IS NULL AND normalized_address(email) = 'a'"
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = "\n".join(connection.scalars(text(f"EXPLAIN {query}")))

    assert "mentorados_unlinked_email_idx" in plan
