"""Installations of the other program for adoption tests, and their rows before and after."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Connection

from benchmarks.databases import connect_to

FOLDER = Path(__file__).resolve().parent.parent / "legacy"
TABLES = (
    "users",
    "mentorados",
    "metricas_mensais",
    "feedbacks",
    "diagnosticos",
    "interacoes",
    "atividade_progress",
)
COLUMNS = """
SELECT table_name, column_name, data_type, is_nullable, column_default
  FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2
"""
INDEXES = "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2"
CONSTRAINTS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
 WHERE connamespace = 'public'::regnamespace AND contype <> 'n' ORDER BY 1, 2
"""

NewDatabase = Callable[[str], str]


def install(url: str, *, data: bool = True, newer: bool = False) -> None:
    """Create the other program's tables in an empty database."""
    with connect_to(url) as connection:
        connection.exec_driver_sql((FOLDER / "schema.sql").read_text())
        if data:
            connection.exec_driver_sql((FOLDER / "data.sql").read_text())
        if newer:
            connection.exec_driver_sql(
                "CREATE UNIQUE INDEX mentorados_user_id_unique_idx ON mentorados (user_id)"
            )


def rows(url: str) -> dict[str, list[Any]]:
    """Return all rows of the other program's tables."""
    with connect_to(url) as connection:
        return {table: _rows(connection, table) for table in TABLES}


def schema(url: str) -> list[tuple[Any, ...]]:
    """Return columns, indexes and constraints of all tables."""
    with connect_to(url) as connection:
        queries = (COLUMNS, INDEXES, CONSTRAINTS)
        return [tuple(row) for query in queries for row in connection.execute(text(query))]


def scalars(url: str, query: str) -> list[Any]:
    """Return the first column of a query's rows."""
    with connect_to(url) as connection:
        return list(connection.scalars(text(query)))


def _rows(connection: Connection, table: str) -> list[Any]:
    return list(connection.scalars(text(f"SELECT to_jsonb(t) FROM {table} t ORDER BY id")))
