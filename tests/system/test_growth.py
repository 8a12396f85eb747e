"""A large installation: every request finds its rows by an index, however many others there are."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, text
from sqlalchemy.engine import Connection

from core.database import db
from dev.databases import app_on, connect_to, count
from tests.support.users import ALICE, BOB
from web.services import EXTENSION

PEOPLE = 5_000
FILL = (
    """INSERT INTO users (clerk_id, name, email, email_verified, identity_completed_at)
       SELECT 'user_' || i, 'Pessoa ' || i, 'p' || i || '@example.com', true, now()
         FROM generate_series(1, :people) AS i""",
    """INSERT INTO mentorados (user_id, nome_completo, email, turma, created_automatically)
       SELECT id, name, email, 'neon', true FROM users ON CONFLICT DO NOTHING""",
    """INSERT INTO mentorados (nome_completo, email, turma)
       SELECT 'Espera ' || i, 'w' || i || '@example.com', 'neon'
         FROM generate_series(1, :people) AS i""",
    """INSERT INTO metricas_mensais (mentorado_id, ano, mes)
       SELECT id, 2026, mes FROM mentorados, generate_series(1, 3) AS mes""",
    """INSERT INTO audit_events (event, entry, user_id, mentorado_id)
       SELECT 'mentorado_created', 'sweep', user_id, id FROM mentorados""",
    """INSERT INTO provisioning_attempts (clerk_id, state, attempts, error_class,
                                           next_attempt_at, first_failed_at, last_failed_at)
       SELECT 'lost_' || i, 'dead', 5, 'Error', now(), now(), now()
         FROM generate_series(1, :people) AS i""",
    "ANALYZE",
)
LARGE = ("users", "mentorados", "metricas_mensais", "audit_events", "provisioning_attempts")
SCANS = "SELECT coalesce(sum(seq_scan), 0) FROM pg_stat_user_tables WHERE relname = :table"
EXECUTIONS_BEFORE_A_PLAN_IS_KEPT = 6  # PostgreSQL plans anew for the first five
REQUESTS = (
    ("POST", "/api/auth/ensure"),
    ("GET", "/api/auth/me"),
    ("GET", "/api/auth/diagnostic"),
    ("GET", "/api/mentorados/me"),
    ("GET", "/api/mentorados/me/overview"),
    ("GET", "/dashboard"),
    ("POST", "/api/auth/ensure"),
)

Statement = tuple[str, Any]


@pytest.fixture(scope="module")
def url(copy_database: Callable[[str], str]) -> str:
    url = copy_database("growth")
    with connect_to(url) as connection:
        for statement in FILL:
            connection.execute(text(statement), {"people": PEOPLE})
    return url


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    with app_on(tmp_path, url) as app:
        yield app


@pytest.fixture
def said(app: Flask) -> Iterator[list[Statement]]:
    """What the database is asked from now on."""
    said: list[Statement] = []

    def note(_: Any, __: Any, statement: str, values: Any, *___: Any) -> None:
        said.append((statement, values))

    event.listen(db.engine, "before_cursor_execute", note)
    yield said
    event.remove(db.engine, "before_cursor_execute", note)


def ask_everything(app: Flask) -> None:
    """Every kind of request, by somebody new and by somebody whom a profile waits for."""
    client, sign = app.test_client(), app.extensions[EXTENSION].dev_provider.token
    for who in (ALICE, BOB):
        headers = {"Authorization": f"Bearer {sign(who)}"}
        for method, path in REQUESTS:
            answer = client.open(path, method=method, headers=headers)
            assert answer.status_code < 300, answer.text


def scans_of(app: Flask, url: str) -> dict[str, int]:
    """How often each large table has been read from end to end, so far."""
    with app.app_context(), db.engine.connect() as connection:
        connection.execute(text("SELECT pg_stat_force_next_flush()"))
        connection.commit()
    return {table: count(url, SCANS, table=table) for table in LARGE}


def plan_of(connection: Connection, said: Statement) -> str:
    statement, values = said
    lines = connection.exec_driver_sql(f"EXPLAIN {statement}", values)
    return "\n".join(line for (line,) in lines)


def test_no_request_reads_a_large_table_from_end_to_end(app: Flask, url: str) -> None:
    before = scans_of(app, url)

    ask_everything(app)

    assert scans_of(app, url) == before


def test_plans_of_a_small_installation_serve_a_large_one(
    copy_database: Callable[[str], str], tmp_path: Path
) -> None:
    url = copy_database("growing")
    with connect_to(url) as connection, app_on(tmp_path, url) as app:
        ask_everything(app)
        connection.execute(text("ANALYZE"))  # now every table is known to be tiny
        for _ in range(EXECUTIONS_BEFORE_A_PLAN_IS_KEPT):
            ask_everything(app)
        for statement in FILL[:-1]:
            connection.execute(text(statement), {"people": PEOPLE})
        before = scans_of(app, url)

        ask_everything(app)

        assert scans_of(app, url) == before


def test_every_statement_is_planned_by_an_index(
    app: Flask, url: str, said: list[Statement]
) -> None:
    ask_everything(app)

    with db.engine.connect() as connection:
        plans = [plan_of(connection, statement) for statement in list(said)]
    assert len(plans) > len(REQUESTS)
    assert [plan for plan in plans for table in LARGE if f"Seq Scan on {table}" in plan] == []
