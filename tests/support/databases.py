"""PostgreSQL servers of tests, which need not survive a power cut; their locks and failures."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from benchmarks.databases import connect_to, count
from benchmarks.servers import PostgresServer, eventually, start_postgres
from tests.support.clients import WAITING_FOR_A_LOCK

MEMORY = Path("/dev/shm")
DATA_BYTES = 4 * 1024**3  # of two test processes, each with some hundred databases
# Without them, a database is created in a fifth of the time and dropped in a fortieth. Autovacuum
# would visit the hundreds of databases one after the other all the time.
FAST_SETTINGS = ("fsync", "full_page_writes", "autovacuum")

ADMIN_SHUTDOWN, UNDEFINED_COLUMN = "57P01", "42703"
# A view in place of the table; the server evaluates the condition even where there is no row.
FAIL_QUERIES_OF_MONTHS = """
CREATE FUNCTION refuse() RETURNS boolean STABLE LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'secret' USING ERRCODE = '{sqlstate}'; END $$;
ALTER TABLE metricas_mensais RENAME TO metricas_reais;
CREATE VIEW metricas_mensais AS SELECT * FROM metricas_reais WHERE refuse()
"""


def new_server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a new folder for a server's data, in memory if the machine has room for it."""
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > DATA_BYTES:
        return Path(tempfile.mkdtemp(prefix="neon-tests-", dir=MEMORY))
    return tmp_path_factory.mktemp("postgres")


def use_fast_settings(url: str) -> None:
    """Turn off what only a server with lasting data needs, in all sessions of the server."""
    with connect_to(url) as connection:
        for setting in FAST_SETTINGS:
            connection.exec_driver_sql(f"ALTER SYSTEM SET {setting} = off")
        connection.exec_driver_sql("SELECT pg_reload_conf()")


@contextmanager
def start_copy(data: Path, folder: Path) -> Iterator[PostgresServer]:
    """Start a server on a copy of this data folder, instead of creating and migrating a new one."""
    shutil.copytree(data, folder / "postgres")
    with start_postgres(folder) as server:
        yield server


def is_blocked_eventually(url: str) -> bool:
    """Wait until one session of the database waits for a lock; returns whether one does."""
    return eventually(lambda: count(url, WAITING_FOR_A_LOCK) == 1)


def fail_queries_of_months(session: Session, sqlstate: str) -> None:
    """Let each query of the reported months fail with this SQLSTATE, until the test ends."""
    session.execute(text(FAIL_QUERIES_OF_MONTHS.format(sqlstate=sqlstate)))
    session.commit()
