"""Alive and ready, told apart."""

from pathlib import Path

from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.engine import Connection

from tests.databases import app_on


def test_process_that_serves_is_alive(client: FlaskClient) -> None:
    assert client.get("/healthz").json == {"status": "ok"}


def test_ready_with_database_and_migrations(client: FlaskClient) -> None:
    answer = client.get("/readyz")

    assert (answer.status_code, answer.json) == (
        200,
        {"status": "ok", "checks": {"database": "ok", "redis": "not_configured"}},
    )


def test_not_ready_behind_on_migrations(client: FlaskClient, connection: Connection) -> None:
    connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))

    answer = client.get("/readyz")

    assert answer.json is not None
    assert (answer.status_code, answer.json["checks"]["database"]) == (503, "behind_on_migrations")


def test_not_ready_before_the_first_migration(client: FlaskClient, connection: Connection) -> None:
    connection.execute(text("DROP TABLE alembic_version"))

    assert client.get("/readyz").status_code == 503


def test_not_ready_without_a_database(tmp_path: Path) -> None:
    with app_on(tmp_path, "postgresql://nobody@127.0.0.1:1/none") as app:
        answer = app.test_client().get("/readyz")

    assert answer.json is not None
    assert (answer.status_code, answer.json["checks"]["database"]) == (503, "down")


def test_redis_down_is_degraded_but_ready(tmp_path: Path, template_url: str) -> None:
    with app_on(tmp_path, template_url, redis_url="redis://127.0.0.1:1/0") as app:
        answer = app.test_client().get("/readyz")

    assert answer.json is not None
    assert (answer.status_code, answer.json["status"]) == (200, "degraded")
