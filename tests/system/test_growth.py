"""A large installation: every request finds its rows by an index."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, text
from sqlalchemy.engine import Connection

from benchmarks.databases import connect_to, count
from core.database import db
from tests.support.apps import create_app_on
from tests.support.users import ALICE, BOB
from web.services import EXTENSION

USERS = 5_000
FILL = (
    """INSERT INTO users (clerk_id, name, email, email_verified, identity_completed_at)
       SELECT 'user_' || i, 'Pessoa ' || i, 'p' || i || '@example.com', true, now()
         FROM generate_series(1, :number) AS i""",
    """INSERT INTO mentorados (user_id, nome_completo, email, turma, created_automatically)
       SELECT id, name, email, 'neon', true FROM users ON CONFLICT DO NOTHING""",
    """INSERT INTO mentorados (nome_completo, email, turma)
       SELECT 'Espera ' || i, 'w' || i || '@example.com', 'neon'
         FROM generate_series(1, :number) AS i""",
    """INSERT INTO metricas_mensais (mentorado_id, ano, mes)
       SELECT id, 2026, mes FROM mentorados, generate_series(1, 3) AS mes""",
    """INSERT INTO audit_events (event, entry, user_id, mentorado_id)
       SELECT 'mentorado_created', 'sweep', user_id, id FROM mentorados""",
    """INSERT INTO provisioning_attempts (clerk_id, state, attempts, error_class,
                                           next_attempt_at, first_failed_at, last_failed_at)
       SELECT 'lost_' || i, 'dead', 5, 'Error', now(), now(), now()
         FROM generate_series(1, :number) AS i""",
    "ANALYZE",
)
LARGE = ("users", "mentorados", "metricas_mensais", "audit_events", "provisioning_attempts")
SCANS = "SELECT coalesce(sum(seq_scan), 0) FROM pg_stat_user_tables WHERE relname = :table"
EXECUTIONS_UNTIL_GENERIC_PLAN = 6  # PostgreSQL uses custom plans for the first five
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
            connection.execute(text(statement), {"number": USERS})
    return url


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    with create_app_on(tmp_path, url) as app:
        yield app


@pytest.fixture
def executed(app: Flask) -> Iterator[list[Statement]]:
    """The statements that are executed from now on, with their values."""
    executed: list[Statement] = []

    def record(_: Any, __: Any, statement: str, values: Any, *___: Any) -> None:
        executed.append((statement, values))

    event.listen(db.engine, "before_cursor_execute", record)
    yield executed
    event.remove(db.engine, "before_cursor_execute", record)


def send_all_requests(app: Flask) -> None:
    """Send each kind of request as two new users."""
    client, sign = app.test_client(), app.extensions[EXTENSION].dev_provider.token
    for user in (ALICE, BOB):
        headers = {"Authorization": f"Bearer {sign(user)}"}
        for method, path in REQUESTS:
            answer = client.open(path, method=method, headers=headers)
            assert answer.status_code < 300, answer.text


def scans_of(app: Flask, url: str) -> dict[str, int]:
    """Return the number of sequential scans of each large table so far."""
    with app.app_context(), db.engine.connect() as connection:
        connection.execute(text("SELECT pg_stat_force_next_flush()"))
        connection.commit()
    return {table: count(url, SCANS, table=table) for table in LARGE}


def plan_of(connection: Connection, executed: Statement) -> str:
    statement, values = executed
    lines = connection.exec_driver_sql(f"EXPLAIN {statement}", values)
    return "\n".join(line for (line,) in lines)


def test_no_request_scans_a_large_table(app: Flask, url: str) -> None:
    before = scans_of(app, url)

    send_all_requests(app)

    assert scans_of(app, url) == before


def test_generic_plans_of_a_small_installation_scan_no_large_table(
    copy_database: Callable[[str], str], tmp_path: Path
) -> None:
    url = copy_database("growing")
    with connect_to(url) as connection, create_app_on(tmp_path, url) as app:
        send_all_requests(app)
        connection.execute(text("ANALYZE"))  # the statistics now describe small tables
        for _ in range(EXECUTIONS_UNTIL_GENERIC_PLAN):
            send_all_requests(app)
        for statement in FILL[:-1]:
            connection.execute(text(statement), {"number": USERS})
        before = scans_of(app, url)

        send_all_requests(app)

        assert scans_of(app, url) == before


def test_every_statement_uses_an_index(app: Flask, url: str, executed: list[Statement]) -> None:
    send_all_requests(app)

    with db.engine.connect() as connection:
        plans = [plan_of(connection, statement) for statement in list(executed)]
    assert len(plans) > len(REQUESTS)
    assert [plan for plan in plans for table in LARGE if f"Seq Scan on {table}" in plan] == []
