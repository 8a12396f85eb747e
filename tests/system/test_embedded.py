"""Embedded database: processes share one server, the last user stops it, no other is affected."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy import make_url

from benchmarks.databases import connect_to, count
from benchmarks.servers import PROJECT, child_environment, eventually, has_ended
from core.database import EmbeddedDatabaseError
from dev import postgres

ONE = "SELECT 1"
USE_UNTIL_EOF = """
import sys, pathlib
from core.database import EmbeddedDatabaseError
from dev import postgres
print(postgres.start(pathlib.Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""
UNUSED_PID = 4_190_000  # above the default pid_max of a small machine


@pytest.fixture(scope="module")
def created(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of an empty database, created once because it takes seconds."""
    folder = tmp_path_factory.mktemp("created")
    postgres.start(folder)
    postgres.release(folder)
    return folder / "postgres"


@pytest.fixture
def folder(tmp_path: Path, created: Path) -> Iterator[Path]:
    """An instance folder with an empty database, whose server is stopped at the end."""
    folder = tmp_path / "instance"
    shutil.copytree(created, folder / "postgres")
    yield folder
    if folder.exists():
        postgres.start(folder)
        postgres.release(folder)


@pytest.fixture
def unrelated() -> Iterator[subprocess.Popen[bytes]]:
    """An unrelated process."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def pid_file(folder: Path) -> Path:
    return folder / "postgres" / "postmaster.pid"


def server_of(folder: Path) -> psutil.Process:
    return psutil.Process(int(pid_file(folder).read_text().split()[0]))


def kill_server(folder: Path) -> str:
    """Kill the server without cleanup and return the contents of its PID file."""
    server = server_of(folder)
    content = pid_file(folder).read_text()
    for process in [server, *server.children()]:
        process.kill()
    assert eventually(lambda: has_ended(server))
    return content


def replace_pid(folder: Path, pid: int, content: str) -> None:
    """Write this PID into all files that a killed server leaves."""
    lines = content.splitlines(keepends=True)
    pid_file(folder).write_text("".join([f"{pid}\n", *lines[1:]]))
    lock = Path(lines[4].strip()) / ".s.PGSQL.5432.lock"
    lock.write_text("".join([f"{pid}\n", *lock.read_text().splitlines(keepends=True)[1:]]))


@contextmanager
def using(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run another process that uses the folder's database; yield it and its database URL."""
    process = subprocess.Popen(
        [sys.executable, "-c", USE_UNTIL_EOF, str(folder)],
        cwd=PROJECT,
        env=child_environment({}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.communicate(timeout=30)


def test_database_of_a_killed_server_is_recovered(folder: Path) -> None:
    url = postgres.start(folder)
    with connect_to(url) as connection:
        connection.exec_driver_sql("CREATE TABLE kept AS SELECT 1")
    killed = server_of(folder)
    kill_server(folder)

    assert postgres.start(folder) == url
    assert count(url, "SELECT count(*) FROM kept") == 1
    assert server_of(folder) != killed


def test_stale_pid_of_an_unrelated_process_is_ignored(
    folder: Path, unrelated: subprocess.Popen[bytes]
) -> None:
    url = postgres.start(folder)
    replace_pid(folder, unrelated.pid, kill_server(folder))

    assert postgres.start(folder) == url
    assert count(url, ONE) == 1
    postgres.release(folder)
    assert unrelated.poll() is None


def test_stale_pid_without_a_process_is_ignored(folder: Path) -> None:
    url = postgres.start(folder)
    replace_pid(folder, UNUSED_PID, kill_server(folder))

    postgres.start(folder)

    assert count(url, ONE) == 1


def test_stale_pid_of_another_folder_s_server_is_ignored(
    folder: Path, tmp_path: Path, created: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(created, other / "postgres")
    other_url = postgres.start(other)
    url = postgres.start(folder)
    replace_pid(folder, server_of(other).pid, kill_server(folder))

    postgres.start(folder)
    postgres.release(folder)

    assert count(other_url, ONE) == 1
    assert url != other_url
    postgres.release(other)


@pytest.mark.parametrize("content", ["", "nonsense\n", "-1\n"])
def test_damaged_pid_file_is_ignored(folder: Path, content: str) -> None:
    url = postgres.start(folder)
    kill_server(folder)
    pid_file(folder).write_text(content)

    postgres.start(folder)

    assert count(url, ONE) == 1


def test_processes_that_start_concurrently_share_one_server(folder: Path) -> None:
    with using(folder) as (_, first), using(folder) as (_, second), using(folder) as (_, third):
        assert first == second == third
        assert count(first, ONE) == 1


def test_threads_that_start_concurrently_share_one_server(folder: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        urls = set(threads.map(postgres.start, [folder] * 4))

    assert len(urls) == 1
    assert count(urls.pop(), ONE) == 1


def test_server_runs_until_its_last_user_has_left(folder: Path) -> None:
    with using(folder) as (_, url):
        postgres.start(folder)
        server = server_of(folder)
    was_running = count(url, ONE) == 1
    postgres.release(folder)

    assert was_running
    assert has_ended(server)


def test_killed_user_does_not_keep_the_server_running(folder: Path) -> None:
    with using(folder) as (process, _):
        postgres.start(folder)
        server = server_of(folder)
        process.kill()
    postgres.release(folder)

    assert has_ended(server)


def test_server_stops_after_its_last_user_was_killed(folder: Path) -> None:
    with using(folder) as (process, _):
        server = server_of(folder)
        process.kill()

    assert eventually(lambda: has_ended(server))


def test_server_stops_after_its_folder_was_deleted(folder: Path) -> None:
    postgres.start(folder)
    server = server_of(folder)
    shutil.rmtree(folder)
    postgres.release(folder)

    assert has_ended(server)


def test_killed_server_leaves_no_supervisor(folder: Path) -> None:
    postgres.start(folder)
    supervisor = psutil.Process(server_of(folder).ppid())
    kill_server(folder)

    assert eventually(lambda: has_ended(supervisor))


def test_exit_of_a_forked_process_does_not_stop_the_server(folder: Path) -> None:
    url = postgres.start(folder)
    child = os.fork()
    if child == 0:
        postgres.release(folder)  # as its exit handler does
        os._exit(0)
    os.waitpid(child, 0)

    assert count(url, ONE) == 1


def test_interrupted_creation_is_restarted(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    draft = folder / "postgres.new"
    draft.mkdir(parents=True)
    (draft / "PG_VERSION").write_text("18")

    assert count(postgres.start(folder), ONE) == 1
    postgres.release(folder)


def test_server_whose_socket_was_deleted_is_restarted(folder: Path) -> None:
    url = postgres.start(folder)
    socket_folder = Path(str(make_url(url).query["host"]))
    (socket_folder / ".s.PGSQL.5432").unlink()

    assert count(postgres.start(folder), ONE) == 1


@pytest.mark.parametrize(
    "name", ["Área de Trabalho", "R&D, C++ 'x'", "x" * 120], ids=["accents", "signs", "long"]
)
def test_folder_may_have_any_name_and_parents_keep_their_permissions(
    tmp_path: Path, created: Path, name: str
) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    folder = private / name
    shutil.copytree(created, folder / "postgres")
    url = postgres.start(folder)
    socket_folder = Path(str(make_url(url).query["host"]))

    assert count(url, ONE) == 1
    assert [stat.S_IMODE(path.stat().st_mode) for path in (private, socket_folder)] == [0o700] * 2
    postgres.release(folder)
    assert not socket_folder.exists()


def test_locale_of_the_caller_does_not_affect_the_database(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    environment = child_environment({"LC_ALL": "xx_XX.not-installed", "TZ": "America/Sao_Paulo"})
    subprocess.run(
        [sys.executable, "-c", USE_UNTIL_EOF, str(folder)],
        cwd=PROJECT,
        env=environment,
        stdin=subprocess.DEVNULL,
        check=True,
        capture_output=True,
    )
    url = postgres.start(folder)

    assert count(url, "SELECT (lower('ÁÇ') = 'áç' AND current_setting('timezone') = 'UTC')::int")
    assert count(url, "SELECT count(*) FROM pg_database WHERE datcollate = 'C'") == 3
    postgres.release(folder)


def test_server_that_does_not_start_is_reported_in_one_line(folder: Path) -> None:
    postgres.start(folder)
    postgres.release(folder)
    settings = folder / "postgres" / "postgresql.conf"
    original = settings.read_text()
    settings.write_text("no_such_setting = 1\n")

    with pytest.raises(EmbeddedDatabaseError) as caught:
        postgres.start(folder)
    settings.write_text(original)

    assert "no_such_setting" in str(caught.value) or "postgresql.conf" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_signal_to_the_terminal_does_not_reach_the_server(folder: Path) -> None:
    postgres.start(folder)

    assert os.getpgid(server_of(folder).pid) != os.getpgrp()
