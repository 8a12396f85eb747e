"""Health and readiness: `/healthz` and `/readyz`."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from flask.testing import FlaskClient
from sqlalchemy import event, func, text
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from benchmarks.databases import hold_locks
from core.database import db
from dev.fake_clerk import PUBLISHABLE_KEY
from models import SweepRun
from models.background import SweepStatus
from tests.support.apps import create_app_on
from tests.support.databases import is_blocked_eventually
from tests.support.users import BOB
from web.services import EXTENSION

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
TOKEN = jwt.encode({"sub": "user_bob"}, KEY, algorithm="RS256", headers={"kid": "unknown"})


def test_serving_process_is_healthy(client: FlaskClient) -> None:
    assert client.get("/healthz").json == {"status": "ok"}


def test_ready_with_database_and_migrations(client: FlaskClient) -> None:
    response = client.get("/readyz")

    checks = {
        "database": "ok",
        "redis": "not_configured",
        "sweep": "none_yet",
        "identity_provider": "ok",
    }
    assert (response.status_code, response.json) == (200, {"status": "ok", "checks": checks})


def test_not_ready_behind_on_migrations(client: FlaskClient, connection: Connection) -> None:
    connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))

    response = client.get("/readyz")

    assert response.json is not None
    assert (response.status_code, response.json["checks"]["database"]) == (
        503,
        "behind_on_migrations",
    )


@pytest.mark.parametrize(
    ("revision", "database"),
    [("9998", "ok"), ("f00d", "behind_on_migrations"), ("10000", "behind_on_migrations")],
    ids=["of a newer version", "of another program", "of another numbering"],
)
def test_database_of_a_newer_version_is_ready(
    client: FlaskClient, connection: Connection, revision: str, database: str
) -> None:
    connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})

    response = client.get("/readyz")

    assert response.json is not None
    assert response.json["checks"]["database"] == database


def test_database_without_migrations_is_an_outage(
    tmp_path: Path, new_database: Callable[[str], str]
) -> None:
    with create_app_on(tmp_path, new_database(f"not_migrated_{tmp_path.name}")) as app:
        provider = app.extensions[EXTENSION].dev_provider
        headers = {"Authorization": f"Bearer {provider.token(BOB)}"}
        with capture_logs() as logged:
            response = app.test_client().get("/api/auth/me", headers=headers)

    assert response.json is not None
    assert (response.status_code, response.json["code"]) == (503, "database_unavailable")
    assert "run flask db upgrade" in [line.get("advice") for line in logged]


def test_not_ready_before_the_first_migration(client: FlaskClient, connection: Connection) -> None:
    connection.execute(text("DROP TABLE alembic_version"))

    assert client.get("/readyz").status_code == 503


def test_not_ready_without_a_database(tmp_path: Path) -> None:
    with create_app_on(tmp_path, "postgresql://nobody@127.0.0.1:1/none") as app:
        response = app.test_client().get("/readyz")

    assert response.json is not None
    assert (response.status_code, response.json["checks"]["database"]) == (503, "down")


def test_redis_down_is_degraded_but_ready(tmp_path: Path, template_url: str) -> None:
    with create_app_on(tmp_path, template_url, redis_url="redis://127.0.0.1:1/0") as app:
        response = app.test_client().get("/readyz")

    assert response.json is not None
    assert (response.status_code, response.json["status"]) == (200, "degraded")


@pytest.mark.parametrize(
    ("minutes", "expected", "status"), [(1, "ok", "ok"), (4, "silent", "degraded")]
)
def test_silent_sweep_is_degraded(
    client: FlaskClient, session: Session, minutes: int, expected: str, status: str
) -> None:
    finished_at = func.now() - timedelta(minutes=minutes)
    session.add(SweepRun(status=SweepStatus.SUCCEEDED, trigger="clock", finished_at=finished_at))
    session.commit()

    response = client.get("/readyz").json

    assert response is not None
    assert (response["status"], response["checks"]["sweep"]) == (status, expected)


def test_dry_run_and_failed_run_do_not_end_the_silence(
    client: FlaskClient, session: Session
) -> None:
    long_ago = func.now() - timedelta(hours=1)
    session.add(SweepRun(status=SweepStatus.SUCCEEDED, trigger="clock", finished_at=long_ago))
    session.flush()  # the newest run has the highest id
    dry_run = SweepRun(status=SweepStatus.SUCCEEDED, trigger="cli", dry_run=True)
    failed_run = SweepRun(status=SweepStatus.FAILED, trigger="clock")
    dry_run.finished_at = failed_run.finished_at = func.now()
    session.add_all([dry_run, failed_run])
    session.commit()

    response = client.get("/readyz").json

    assert response is not None
    assert response["checks"]["sweep"] == "silent"


def test_unreachable_key_set_is_degraded(tmp_path: Path, template_url: str) -> None:
    unreachable = "http://127.0.0.1:1/jwks.json"
    settings = {"clerk_jwks_url": unreachable, "clerk_publishable_key": PUBLISHABLE_KEY}
    with create_app_on(tmp_path, template_url, **settings) as app:
        client = app.test_client()
        before = client.get("/readyz").json
        client.get("/api/auth/me", headers={"Authorization": f"Bearer {TOKEN}"})
        after = client.get("/readyz").json

    assert before is not None
    assert after is not None
    assert before["checks"]["identity_provider"] == "ok"
    assert (after["status"], after["checks"]["identity_provider"]) == ("degraded", "no_keys")


def test_concurrent_readiness_requests_share_the_check(tmp_path: Path, url: str) -> None:
    reads: list[str] = []

    def record(_c: object, _k: object, statement: str, *_: object) -> None:
        if "alembic_version" in statement and "to_regclass" not in statement:
            reads.append(statement)

    with create_app_on(tmp_path, url) as app, ThreadPoolExecutor(8) as pool:
        event.listen(db.engine, "before_cursor_execute", record)
        with hold_locks(url, "LOCK TABLE alembic_version"):
            requests = [pool.submit(app.test_client().get, "/readyz") for _ in range(8)]
            assert is_blocked_eventually(url)
        statuses = [request.result().status_code for request in requests]

    assert (statuses, len(reads) < 8) == ([200] * 8, True)
