"""A full disk, a missing folder or damaged metric files affect counters only, not answers."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from benchmarks.servers import (
    PROJECT,
    AppServer,
    child_environment,
    free_port,
    request_as,
    stop,
    wait_for,
)
from dev.fake_clerk import DevUser
from tests.support.clients import ADMIN
from tests.support.servers import run_test_app

# The file system is mounted in a private namespace, which ends with the process.
ON_A_FULL_DISK = """
mount -t tmpfs -o size=64k tmpfs "$METRICS" && head -c 60000 /dev/zero > "$METRICS/filler"
exec "$@"
"""
AS_ROOT = ("unshare", "--mount")
UNSHARE = AS_ROOT if os.geteuid() == 0 else (*AS_ROOT, "--user", "--map-root-user")


@contextmanager
def served_on_a_full_disk(folder: Path, url: str) -> Iterator[AppServer]:
    """Serve the app with a full file system for its metric files."""
    bind = f"127.0.0.1:{free_port()}"
    (folder / "metrics").mkdir()
    settings = {"INSTANCE_PATH": str(folder), "BIND": bind, "DATABASE_URL": url}
    environment = child_environment(settings) | {"METRICS": str(folder / "metrics")}
    gunicorn = (sys.executable, "-m", "gunicorn", "wsgi:app")
    log = folder / "gunicorn.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            (*UNSHARE, "sh", "-c", ON_A_FULL_DISK, "sh", *gunicorn),
            cwd=PROJECT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(f"http://{bind}/readyz")
        yield AppServer(f"http://{bind}", process, log, folder)
    finally:
        stop(process)


def test_requests_succeed_when_the_metrics_disk_is_full(tmp_path: Path, url: str) -> None:
    with served_on_a_full_disk(tmp_path, url) as app:
        answers = [request_as(app, DevUser(f"user_{number}")).status_code for number in range(20)]
        metrics = requests.get(f"{app.url}/metrics", timeout=10)
        console = request_as(app, ADMIN, "/admin", "GET")
        log = app.log.read_text()

    assert answers == [201] * 20
    assert (metrics.status_code, console.status_code) == (200, 200)
    assert "counters_kept_in_memory" in log


@pytest.fixture(scope="module")
def app(
    copy_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AppServer]:
    """An app whose metric files the tests damage."""
    folder = tmp_path_factory.mktemp("damaged")
    with run_test_app(folder, DATABASE_URL=copy_database("damaged_metrics")) as app:
        request_as(app, ADMIN)
        yield app


@pytest.mark.parametrize("content", [b"\xff" * 70_000, b"x", b"\x40\x00\x00\x00" + b"{" * 80])
def test_requests_succeed_with_damaged_metric_files(app: AppServer, content: bytes) -> None:
    (app.instance / "metrics" / "counter_1.db").write_bytes(content)

    metrics = requests.get(f"{app.url}/metrics", timeout=10)
    console = request_as(app, ADMIN, "/admin", "GET")

    assert (metrics.status_code, console.status_code) == (200, 200)
    assert "mentorado_ensure_total" in metrics.text


def test_requests_succeed_without_the_metrics_folder(app: AppServer) -> None:
    shutil.move(app.instance / "metrics", app.instance / "moved")
    try:
        metrics = requests.get(f"{app.url}/metrics", timeout=10)
        console = request_as(app, ADMIN, "/admin", "GET")
    finally:
        shutil.move(app.instance / "moved", app.instance / "metrics")

    assert (metrics.status_code, console.status_code) == (200, 200)
