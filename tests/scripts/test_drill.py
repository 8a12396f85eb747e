"""The restore drill copies a database, compares it, and fails where it cannot."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import make_url

from benchmarks.databases import connect_to, count
from benchmarks.servers import child_environment
from scripts.drill import compare, main, newest

ADD_USERS = "INSERT INTO users (clerk_id) SELECT 'u' || i FROM generate_series(1, 30) AS i"
GIVE_PROFILES = """
INSERT INTO mentorados (user_id, nome_completo, turma) SELECT id, 'Ana', 'neon' FROM users
"""


def drill(folder: Path, source: str, target: str) -> None:
    url = make_url(source).set(drivername="postgresql").render_as_string(hide_password=False)
    main(target, child_environment({"INSTANCE_PATH": str(folder), "DATABASE_URL": url}))


def test_restored_database_has_all_rows(
    tmp_path: Path, copy_database: Callable[[str], str], new_database: Callable[[str], str]
) -> None:
    source, target = copy_database("drilled"), new_database("restored_by_a_drill")
    with connect_to(source) as connection:
        connection.exec_driver_sql(ADD_USERS + ";" + GIVE_PROFILES)

    drill(tmp_path, source, target)

    assert count(target, "SELECT count(*) FROM mentorados JOIN users ON users.id = user_id") == 30


def test_database_with_tables_is_not_overwritten(
    tmp_path: Path, copy_database: Callable[[str], str]
) -> None:
    source = copy_database("drilled")

    with pytest.raises(SystemExit, match="is not empty"):
        drill(tmp_path, source, source)


def test_database_without_tables_is_not_a_source(
    tmp_path: Path, new_database: Callable[[str], str]
) -> None:
    with pytest.raises(SystemExit, match="has no tables; set DATABASE_URL"):
        drill(tmp_path, new_database("empty_source"), new_database("empty_target"))


def test_server_with_tls_needs_the_programs_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    assert "pixeltable" in newest("pg_dump", needs_tls=False)
    with pytest.raises(SystemExit, match="pg_dump is missing"):
        newest("pg_dump", needs_tls=True)


def test_table_with_fewer_rows_fails_the_drill() -> None:
    with pytest.raises(SystemExit, match=r"drill: public\.users differ"):
        compare({"public.users": 2}, {"public.users": 1})
