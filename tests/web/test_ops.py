"""Alive and ready, told apart."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Event

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, text
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from dev.databases import app_on
from dev.fake_clerk import PUBLISHABLE_KEY
from dev.servers import eventually
from models import SweepRun
from models.sweep_run import SweepStatus

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
TOKEN = jwt.encode({"sub": "user_bob"}, KEY, algorithm="RS256", headers={"kid": "unheard-of"})


def test_process_that_serves_is_alive(client: FlaskClient) -> None:
    assert client.get("/healthz").json == {"status": "ok"}


def test_ready_with_database_and_migrations(client: FlaskClient) -> None:
    answer = client.get("/readyz")

    checks = {
        "database": "ok",
        "redis": "not_configured",
        "sweep": "none_yet",
        "identity_provider": "ok",
    }
    assert (answer.status_code, answer.json) == (200, {"status": "ok", "checks": checks})


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


@pytest.mark.parametrize(
    ("minutes", "found", "status"), [(1, "ok", "ok"), (4, "silent", "degraded")]
)
def test_silent_sweep_is_degraded(
    client: FlaskClient, session: Session, minutes: int, found: str, status: str
) -> None:
    ended = func.now() - timedelta(minutes=minutes)
    session.add(SweepRun(status=SweepStatus.SUCCEEDED, trigger="clock", finished_at=ended))
    session.commit()

    answer = client.get("/readyz").json

    assert answer is not None
    assert (answer["status"], answer["checks"]["sweep"]) == (status, found)


def test_rehearsal_and_failure_do_not_break_the_silence(
    client: FlaskClient, session: Session
) -> None:
    long_ago = func.now() - timedelta(hours=1)
    session.add(SweepRun(status=SweepStatus.SUCCEEDED, trigger="clock", finished_at=long_ago))
    session.flush()  # the newest run is the one of the highest id
    rehearsal = SweepRun(status=SweepStatus.SUCCEEDED, trigger="cli", dry_run=True)
    failure = SweepRun(status=SweepStatus.FAILED, trigger="clock")
    rehearsal.finished_at = failure.finished_at = func.now()
    session.add_all([rehearsal, failure])
    session.commit()

    answer = client.get("/readyz").json

    assert answer is not None
    assert answer["checks"]["sweep"] == "silent"


def test_issuer_that_never_told_its_keys_is_degraded(tmp_path: Path, template_url: str) -> None:
    nowhere = "http://127.0.0.1:1/jwks.json"
    settings = {"clerk_jwks_url": nowhere, "clerk_publishable_key": PUBLISHABLE_KEY}
    with app_on(tmp_path, template_url, **settings) as app:
        client = app.test_client()
        before = client.get("/readyz").json
        client.get("/api/auth/me", headers={"Authorization": f"Bearer {TOKEN}"})
        after = client.get("/readyz").json

    assert before is not None
    assert after is not None
    assert before["checks"]["identity_provider"] == "ok"
    assert (after["status"], after["checks"]["identity_provider"]) == ("degraded", "no_keys")


def test_simultaneous_questions_ask_the_database_once_or_twice(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, may_answer = [], Event()

    def database() -> str:
        asked.append("database")
        may_answer.wait(10)
        return "down"

    monkeypatch.setattr("web.health.database", database)
    with ThreadPoolExecutor(8) as pool:
        knocks = [pool.submit(app.test_client().get, "/readyz") for _ in range(8)]
        assert eventually(lambda: len(asked) == 1)
        may_answer.set()
        statuses = [knock.result().status_code for knock in knocks]

    assert (statuses, len(asked) < 8) == ([503] * 8, True)
