"""Several processes of one host, one sum: whichever of them Prometheus happens to ask."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from dev.clients import concurrently, request_as
from dev.databases import connect_to
from dev.fake_clerk import DevUser
from dev.servers import PROJECT, Served, child_environment, eventually, served, stop, workers


@pytest.fixture(scope="module")
def url(copy_database: Callable[[str], str]) -> str:
    return copy_database("counting")


@pytest.fixture(scope="module")
def app(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app in two worker processes, which all of these tests share."""
    folder = tmp_path_factory.mktemp("counting")
    with served(folder, DATABASE_URL=url, WEB_CONCURRENCY="2", SCHEDULER="off") as app:
        yield app


def counted(app: Served, name: str, **labels: str) -> float:
    text_format = requests.get(f"{app.url}/metrics", headers={"Connection": "close"}, timeout=10)
    families = text_string_to_metric_families(text_format.text)
    samples = [sample for family in families for sample in family.samples]
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


def created(app: Served, door: str = "api") -> float:
    return counted(app, "mentorado_ensure_total", outcome="created", entry=door)


def come(app: Served, name: str) -> int:
    """Let twenty people in who have never been here."""
    people = [DevUser(f"user_{name}_{i}") for i in range(20)]
    return len(concurrently(lambda person: request_as(app, person), people))


def test_every_process_tells_what_all_have_counted(app: Served) -> None:
    before = created(app)

    number = come(app, "together")

    assert {created(app) - before for _ in range(20)} == {number}


def test_what_a_killed_worker_has_counted_stays(app: Served) -> None:
    before = created(app)
    number = come(app, "killed")
    killed = workers(app)
    for worker in killed:
        worker.kill()

    assert eventually(lambda: len({*workers(app)} - {*killed}) == 2)
    assert created(app) - before == number


def test_what_alerts_watch_for_is_there_before_its_first_case(app: Served) -> None:
    told = requests.get(f"{app.url}/metrics", timeout=10).text

    assert 'session_cache_requests_total{result="hit_no_mentorado"} 0.0' in told
    assert 'mentorado_ensure_total{entry="page",outcome="failed"} 0.0' in told


def test_restart_begins_anew_but_not_for_the_sweeps(url: str, tmp_path: Path) -> None:
    with served(tmp_path, DATABASE_URL=url, SWEEP_INTERVAL_SECONDS="1") as before:
        request_as(before, DevUser("user_before"))
        assert eventually(lambda: counted(before, "sweep_runs_total") >= 1, seconds=30)

    with served(tmp_path, DATABASE_URL=url, SCHEDULER="off") as after:
        assert (created(after), counted(after, "sweep_runs_total") >= 1) == (0, True)


def test_clock_in_a_process_of_its_own_counts_with_the_others(app: Served, url: str) -> None:
    with connect_to(url) as connection:
        connection.execute(text("INSERT INTO users (clerk_id) VALUES ('user_forgotten')"))

    before = created(app, "sweep")

    with clock_beside(app, url):
        assert eventually(lambda: created(app, "sweep") > before, seconds=30)


@contextmanager
def clock_beside(app: Served, url: str) -> Iterator[None]:
    """`flask scheduler` on the same host."""
    settings = {"INSTANCE_PATH": str(app.instance), "DATABASE_URL": url}
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "scheduler"],
        cwd=PROJECT,
        env=child_environment({**settings, "SWEEP_INTERVAL_SECONDS": "1"}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        stop(process)
