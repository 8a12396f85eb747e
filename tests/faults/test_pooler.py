"""The app behind a connection pooler in transaction mode, like Neon's."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from sqlalchemy import make_url

from benchmarks.databases import connect_to, count
from benchmarks.servers import AppServer, eventually, free_port, is_served, request_as, stop
from tests.support.apps import create_app_on
from tests.support.clients import ADMIN, concurrently, new_users
from tests.support.servers import run_test_app

SETTINGS = """
[databases]
* = host={folder} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
"""
USERS = new_users(60)
ADD_USERS = "INSERT INTO users (clerk_id) SELECT 'absent_' || i FROM generate_series(1, 500) AS i"
IDLE_IN_TRANSACTION = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND state LIKE 'idle in transaction%%'
"""


@pytest.fixture
def pooled_url(url: str) -> Iterator[str]:
    """The same database through PgBouncer, with three server connections."""
    port = free_port()
    folder = Path(str(make_url(url).query["host"]))
    settings = folder / "pgbouncer.ini"  # in a folder that the pooler's user can read
    settings.write_text(SETTINGS.format(folder=folder, port=port))
    binary = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    user = folder.owner()  # PgBouncer refuses to run as root
    process = subprocess.Popen([binary, settings], user=user, stderr=subprocess.DEVNULL)
    pooled = make_url(url).set(host="127.0.0.1", port=port, query={})
    try:
        yield pooled.render_as_string(hide_password=False)
    finally:
        stop(process)
        settings.unlink()


@pytest.fixture
def app(pooled_url: str, tmp_path: Path) -> Iterator[AppServer]:
    """The app in two worker processes behind the pooler."""
    with run_test_app(tmp_path, DATABASE_URL=pooled_url, WEB_CONCURRENCY="2") as app:
        yield app


def test_logins_and_a_sweep_share_three_pooled_connections(app: AppServer, url: str) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(ADD_USERS)

    def sign_in(number: int) -> requests.Response:
        if number == 5:
            request_as(app, ADMIN, "/api/admin/sweeps")
        return request_as(app, USERS[number])

    answers = concurrently(sign_in, range(len(USERS)))

    assert [answer.text for answer in answers if not is_served(answer)] == []
    assert eventually(lambda: count(url, "SELECT count(user_id) FROM mentorados") == 560)
    # A scheduled sweep may still be running.
    assert eventually(lambda: count(url, IDLE_IN_TRANSACTION) == 0)


def test_doctor_recognises_a_pooler(tmp_path: Path, pooled_url: str, url: str) -> None:
    outputs = []
    for each, direct in ((pooled_url, None), (url, None), (pooled_url, url), (url, pooled_url)):
        with create_app_on(tmp_path, each, database_url_unpooled=direct) as app:
            outputs.append(app.test_cli_runner().invoke(args=["doctor"]).stdout)

    assert "warn  connection     through a pooler" in outputs[0]
    assert "ok    connection     direct" in outputs[1]
    assert "ok    connection     through a pooler" in outputs[2]
    assert "ok    migrations by  DATABASE_URL_UNPOOLED" in outputs[2]
    assert "warn  migrations by  DATABASE_URL_UNPOOLED: it leads to a pooler" in outputs[3]
