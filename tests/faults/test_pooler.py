"""Behind a pooler that lends connections for one transaction only, as Neon's does."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from sqlalchemy import make_url

from dev.clients import ADMIN, concurrently, is_served, new_users, request_as
from dev.databases import connect_to, count
from dev.servers import Served, eventually, free_port, served, stop

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
PEOPLE = new_users(60)
ABSENT = "INSERT INTO users (clerk_id) SELECT 'absent_' || i FROM generate_series(1, 500) AS i"
LEFT_BEHIND = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND state LIKE 'idle in transaction%%'
"""


@pytest.fixture
def pooled_url(url: str) -> Iterator[str]:
    """The same database through PgBouncer: three server connections for everybody."""
    port = free_port()
    folder = Path(str(make_url(url).query["host"]))
    settings = folder / "pgbouncer.ini"  # where its user may read
    settings.write_text(SETTINGS.format(folder=folder, port=port))
    binary = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    somebody = folder.owner()  # it refuses to run as root, and so does PostgreSQL
    process = subprocess.Popen([binary, settings], user=somebody, stderr=subprocess.DEVNULL)
    through = make_url(url).set(host="127.0.0.1", port=port, query={})
    try:
        yield through.render_as_string(hide_password=False)
    finally:
        stop(process)
        settings.unlink()


@pytest.fixture
def app(pooled_url: str, tmp_path: Path) -> Iterator[Served]:
    """The app in two worker processes behind the pooler."""
    with served(tmp_path, DATABASE_URL=pooled_url, WEB_CONCURRENCY="2") as app:
        yield app


def test_stampede_and_sweep_share_three_connections_of_a_transaction_pooler(
    app: Served, url: str
) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(ABSENT)

    def sign_in(number: int) -> requests.Response:
        if number == 5:
            request_as(app, ADMIN, "/api/admin/sweeps")
        return request_as(app, PEOPLE[number])

    answers = concurrently(sign_in, range(len(PEOPLE)))

    assert [answer.text for answer in answers if not is_served(answer)] == []
    assert eventually(lambda: count(url, "SELECT count(user_id) FROM mentorados") == 560)
    assert eventually(lambda: count(url, LEFT_BEHIND) == 0)  # the clock may just be at work
