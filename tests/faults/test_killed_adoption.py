"""A killed `flask adopt` has changed nothing, and the next one succeeds."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.databases import hold_locks
from benchmarks.servers import PROJECT, child_environment, eventually
from tests.support.clients import queue_length
from tests.support.legacy_installations import install, rows, schema

# When these rows are moved, rows of other tables have been moved and some have been archived.
LOCK_ROWS = "SELECT * FROM interacoes FOR UPDATE"


@pytest.fixture
def legacy(new_database: Callable[[str], str], tmp_path: Path) -> str:
    url = new_database(f"killed_{tmp_path.name}")
    install(url)
    return url


def adopt(url: str, folder: Path) -> subprocess.Popen[bytes]:
    settings = {"DATABASE_URL": url, "INSTANCE_PATH": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-m", "flask", "adopt", "--json"],
        cwd=PROJECT,
        env=child_environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def test_killed_adoption_has_changed_nothing_and_the_next_one_succeeds(
    legacy: str, tmp_path: Path
) -> None:
    before = (schema(legacy), rows(legacy))
    with hold_locks(legacy, LOCK_ROWS):
        process = adopt(legacy, tmp_path)
        assert eventually(lambda: queue_length(legacy) == 1, seconds=30)
        process.kill()
        process.communicate()

    after = (schema(legacy), rows(legacy))
    again = adopt(legacy, tmp_path)
    report = json.loads(again.communicate()[0])

    assert after == before
    assert (again.returncode, len(report["decisions"])) == (0, 3)
