"""A Redis that refuses writes is reported as degraded, and no request fails."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from redis import StrictRedis
from werkzeug.test import TestResponse

from benchmarks.servers import RedisServer, eventually, free_port, start_redis
from tests.support.apps import create_app_on
from tests.support.users import ALICE, BOB, CHARLIE
from web.services import EXTENSION

Commands = tuple[tuple[object, ...], ...]
# Commands that start and end the refusal: READONLY, OOM, NOREPLICAS, NOPERM.
REFUSALS: dict[str, tuple[Commands, Commands]] = {
    "replica": (
        (("REPLICAOF", "127.0.0.1", free_port()),),
        (("REPLICAOF", "NO", "ONE"),),
    ),
    "full": (
        (("CONFIG", "SET", "maxmemory", 1), ("CONFIG", "SET", "maxmemory-policy", "noeviction")),
        (("CONFIG", "SET", "maxmemory", 0),),
    ),
    "without replicas": (
        (("CONFIG", "SET", "min-replicas-to-write", 1),),
        (("CONFIG", "SET", "min-replicas-to-write", 0),),
    ),
    "without rights": (
        (("ACL", "SETUSER", "default", "-@write", "-@scripting"),),
        (("ACL", "SETUSER", "default", "+@all"),),
    ),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis server for this module, whose settings may be changed."""
    with start_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def app(
    tmp_path: Path, copy_database: Callable[[str], str], server: RedisServer
) -> Iterator[Flask]:
    """An app with that Redis and a database of its own."""
    with StrictRedis.from_url(server.url) as store:
        store.flushall()
    url = copy_database(f"redis_{tmp_path.name}")
    admins = {CHARLIE.email}
    with create_app_on(tmp_path, url, redis_url=server.url, admin_emails=admins) as app:
        yield app


@contextmanager
def refuse_writes(server: RedisServer, refusal: str) -> Iterator[None]:
    start_commands, end_commands = REFUSALS[refusal]
    with StrictRedis.from_url(server.url) as store:
        for command in start_commands:
            store.execute_command(*command)
        try:
            yield
        finally:
            for command in end_commands:
                store.execute_command(*command)


def send(app: Flask, method: str, path: str, user: Any) -> TestResponse:
    headers = {"Authorization": f"Bearer {app.extensions[EXTENSION].dev_provider.token(user)}"}
    json = {"leads": 1} if method == "PUT" else None
    return app.test_client().open(path, method=method, headers=headers, json=json)


def readiness(app: Flask) -> tuple[int, str, str]:
    response = app.test_client().get("/readyz")
    document = response.json or {}
    return response.status_code, document["status"], document["checks"]["redis"]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_refused_writes_are_degraded_and_fail_no_request(
    app: Flask, server: RedisServer, refusal: str
) -> None:
    before = readiness(app)
    send(app, "POST", "/api/auth/ensure", ALICE)

    with refuse_writes(server, refusal):
        during = readiness(app)
        responses = [
            send(app, "POST", "/api/auth/ensure", BOB),
            send(app, "GET", "/dashboard", BOB),
            send(app, "GET", "/api/auth/me", ALICE),
            send(app, "POST", "/api/auth/ensure", ALICE),
            send(app, "PUT", "/api/mentorados/me/metricas/2026/1", ALICE),
            send(app, "GET", "/admin/sistema", CHARLIE),
        ]
        doctor = app.test_cli_runner().invoke(args=["doctor"])

    assert (before, during) == ((200, "ok", "ok"), (200, "degraded", "refuses_writes"))
    assert [response.status_code for response in responses] == [201, 200, 200, 200, 200, 200]
    assert "recusa gravações" in responses[-1].text
    assert (doctor.exit_code, "FAIL  redis" in doctor.output) == (1, True)
    assert "refuses writes" in doctor.output
    assert eventually(lambda: readiness(app) == before)


def test_redis_that_requires_a_password_is_degraded(
    tmp_path: Path, template_url: str, server: RedisServer
) -> None:
    with StrictRedis.from_url(server.url) as store:
        store.config_set("requirepass", "secret")
        try:
            with create_app_on(tmp_path, template_url, redis_url=server.url) as app:
                status, response = readiness(app), send(app, "GET", "/healthz", ALICE)
                doctor = app.test_cli_runner().invoke(args=["doctor"]).output
        finally:
            store.config_set("requirepass", "")

    assert (status, response.status_code) == ((200, "degraded", "down"), 200)
    assert "its password included" in doctor
