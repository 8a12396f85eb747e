"""Adoption moves rows of tables of any shape to the kept profile; the downgrade restores them."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from flask_migrate import upgrade
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError

from migrations import duplicates
from tests.support.apps import create_app_on
from tests.support.foreign_tables import (
    SHAPES,
    UNMOVABLE_ROWS,
    Shape,
    add_row,
    create_tables,
    read_rows,
)
from tests.support.legacy_installations import install

GONE, KEPT, OTHER = "gone", "kept", "other"
IDS = {GONE: 11, KEPT: 12, OTHER: 13}
Rows = list[tuple[str, int]]  # owner and number
PROFILES = """
INSERT INTO users (id, clerk_id) VALUES (1, 'user_a'), (2, 'user_b');
INSERT INTO mentorados (id, user_id, nome_completo, email, turma, meta_leads) VALUES
 (11, 1, 'gone', 'gone@example.com', 'neon', 9), (12, 1, 'kept', 'kept@example.com', 'neon', 9),
 (13, 2, 'other', 'other@example.com', 'neon', 9);
INSERT INTO metricas_mensais (mentorado_id, ano, mes) VALUES (12, 2026, 1);
SELECT setval('users_id_seq', 100), setval('mentorados_id_seq', 100);
"""
ARCHIVED = "SELECT content FROM archived_rows WHERE reason = 'adoption' AND table_name <> :profiles"
ALL_ROWS: Rows = [(owner, n) for n in (1, 2, 3, 4) for owner in (OTHER, GONE, KEPT)]


@pytest.fixture(scope="module")
def url(new_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A legacy installation with two profiles of one user, before migration 0009."""
    url = new_database("adoption_tables")
    install(url, data=False)
    with create_app_on(tmp_path_factory.mktemp("before"), url):
        upgrade(revision="0008")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(PROFILES)
    engine.dispose()
    return url


@contextmanager
def example(url: str) -> Iterator[Connection]:
    """Yield a connection for migrations and roll back at the end."""
    engine = create_engine(url)
    with (
        engine.connect() as connection,
        Operations.context(MigrationContext.configure(connection)),
    ):
        yield connection
        connection.rollback()
    engine.dispose()


def value_of(shape: Shape, column: str, name: str) -> Any:
    return f"{name}@example.com" if shape.values.get(column) == "email" else IDS[name]


def refers(shape: Shape, content: dict[str, Any], *names: str) -> bool:
    return any(content[c] == value_of(shape, c, name) for c in shape.owners for name in names)


def as_moved(shape: Shape, content: dict[str, Any]) -> str:
    moved = {
        name: value_of(shape, name, KEPT)
        if name in shape.owners and value == value_of(shape, name, GONE)
        else value
        for name, value in content.items()
    }
    return json.dumps(moved, sort_keys=True)


def count_rows(rows: list[tuple[str, str, dict[str, Any]]]) -> Counter[str]:
    """Count the rows by content and table or partition."""
    return Counter(
        f"{table.partition('(')[0]} {json.dumps(content, sort_keys=True)}"
        for _, table, content in rows
    )


def check_moved_and_restored(connection: Connection, name: str, rows: Rows) -> None:
    shape = SHAPES[name]
    create_tables(connection, shape, IDS)
    for owner, n in rows:
        add_row(connection, shape, IDS[owner], n, IDS[OTHER])
    before = read_rows(connection, shape)

    duplicates.merge_duplicates()

    after = read_rows(connection, shape)
    archived = list(connection.scalars(text(ARCHIVED), {"profiles": "mentorados"}))
    ids = list(connection.scalars(text("SELECT id FROM mentorados ORDER BY id")))
    untouched = [row for row in before if not refers(shape, row[2], GONE, KEPT)]
    assert [row for row in untouched if row not in after] == []
    assert not any(refers(shape, content, GONE) for *_, content in after)
    remaining = [content for *_, content in after]
    expected = Counter(as_moved(shape, content) for *_, content in before)
    assert Counter(as_moved(shape, content) for content in remaining + archived) == expected
    assert ids == [IDS[KEPT], IDS[OTHER]]

    duplicates.restore_duplicates()

    assert count_rows(read_rows(connection, shape)) == count_rows(before)
    assert connection.scalar(text("SELECT count(*) FROM mentorados")) == 3


@pytest.mark.parametrize("name", SHAPES)
def test_rows_are_moved_and_restored(url: str, name: str) -> None:
    with example(url) as connection:
        check_moved_and_restored(connection, name, ALL_ROWS)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(SHAPES)),
    rows=st.lists(
        st.tuples(st.sampled_from([GONE, KEPT, OTHER]), st.integers(1, 4)), max_size=9, unique=True
    ),
)
def test_no_row_of_a_table_of_any_shape_is_lost(url: str, name: str, rows: Rows) -> None:
    with example(url) as connection:
        check_moved_and_restored(connection, name, rows)


@pytest.mark.parametrize("obstacle", UNMOVABLE_ROWS)
def test_row_that_cannot_move_stops_the_adoption(url: str, obstacle: str) -> None:
    with example(url) as connection:
        connection.exec_driver_sql(UNMOVABLE_ROWS[obstacle].format(**IDS))

        with pytest.raises((RuntimeError, DBAPIError)):
            duplicates.merge_duplicates()


def test_references_between_profiles_are_moved_and_restored(url: str) -> None:
    query = text("SELECT jsonb_object_agg(id, indicado_por) FROM mentorados")
    with example(url) as connection:
        connection.exec_driver_sql(
            "ALTER TABLE mentorados ADD COLUMN indicado_por int REFERENCES mentorados;"
            "UPDATE mentorados SET indicado_por = 11"
        )

        duplicates.merge_duplicates()
        settled = connection.scalar(query)
        duplicates.restore_duplicates()

        assert settled == {"12": 12, "13": 12}
        assert connection.scalar(query) == {"11": 11, "12": 11, "13": 11}


def test_row_with_two_references_has_one_conflict(url: str) -> None:
    with example(url) as connection:
        connection.exec_driver_sql(
            "CREATE TABLE turnos (dono int UNIQUE REFERENCES mentorados,"
            "                     guia int REFERENCES mentorados);"
            "INSERT INTO turnos VALUES (11, 13), (12, 11), (13, 11)"
        )

        duplicates.merge_duplicates()
        rows = connection.execute(text("SELECT dono, guia FROM turnos ORDER BY 1")).all()

        assert rows == [(12, 12), (13, 12)]


def test_archived_rows_of_earlier_versions_are_restored(url: str) -> None:
    """Earlier versions archived each column separately and rows without key by their old values."""
    query = "SELECT jsonb_agg(to_jsonb(t) ORDER BY t::text) FROM {} t"
    with example(url) as connection:
        connection.exec_driver_sql(
            "CREATE TABLE pares (id serial PRIMARY KEY, a int REFERENCES mentorados,"
            "                    b int REFERENCES mentorados);"
            "CREATE TABLE soltos (mentorado_id int REFERENCES mentorados, nota text);"
            "INSERT INTO pares (a, b) VALUES (11, 11), (11, 13), (13, 12);"
            "INSERT INTO soltos VALUES (11, 'x'), (11, 'x'), (12, 'x'), (13, 'y')"
        )
        before = [connection.scalar(text(query.format(name))) for name in ("pares", "soltos")]
        duplicates.merge_duplicates()
        connection.exec_driver_sql(
            """WITH notes AS (
                DELETE FROM archived_rows WHERE reason = 'adoption: moved' RETURNING *)
            INSERT INTO archived_rows (reason, table_name, content, mentorado_id, kept_mentorado_id)
            SELECT reason, table_name, CASE WHEN table_name = 'soltos'
                       THEN (content -> 'row') || (content -> 'was')
                       ELSE jsonb_build_object('id', content #> '{row,id}')
                   END || jsonb_build_object('', key), mentorado_id, kept_mentorado_id
              FROM notes, jsonb_object_keys(content -> 'was') AS key"""
        )

        duplicates.restore_duplicates()

        after = [connection.scalar(text(query.format(name))) for name in ("pares", "soltos")]
        assert after == before
