"""Metrics of several processes on one host: each process reports the sum of all."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from benchmarks.databases import connect_to
from benchmarks.servers import (
    PROJECT,
    AppServer,
    child_environment,
    eventually,
    request_as,
    stop,
    workers,
)
from dev.fake_clerk import DevUser
from tests.support.clients import concurrently
from tests.support.servers import run_test_app


@pytest.fixture(scope="module")
def url(copy_database: Callable[[str], str]) -> str:
    return copy_database("counting")


@pytest.fixture(scope="module")
def app(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """The app in two worker processes, shared by the tests of this module."""
    folder = tmp_path_factory.mktemp("counting")
    with run_test_app(folder, DATABASE_URL=url, WEB_CONCURRENCY="2", SCHEDULER="off") as app:
        yield app


def metric_value(app: AppServer, name: str, **labels: str) -> float:
    response = requests.get(f"{app.url}/metrics", headers={"Connection": "close"}, timeout=10)
    families = text_string_to_metric_families(response.text)
    samples = [sample for family in families for sample in family.samples]
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


def created_profiles(app: AppServer, source: str = "api") -> float:
    return metric_value(app, "mentorado_ensure_total", outcome="created", entry=source)


def sign_in_new_users(app: AppServer, name: str) -> int:
    """Sign in twenty new users concurrently and return their number."""
    users = [DevUser(f"user_{name}_{i}") for i in range(20)]
    return len(concurrently(lambda user: request_as(app, user), users))


def test_every_process_reports_the_sum_of_all_processes(app: AppServer) -> None:
    before = created_profiles(app)

    number = sign_in_new_users(app, "together")

    assert {created_profiles(app) - before for _ in range(20)} == {number}


def test_counts_of_a_killed_worker_are_kept(app: AppServer) -> None:
    before = created_profiles(app)
    number = sign_in_new_users(app, "killed")
    killed = workers(app)
    for worker in killed:
        worker.kill()

    assert eventually(lambda: len({*workers(app)} - {*killed}) == 2)
    assert created_profiles(app) - before == number


def test_series_that_alerts_use_exist_before_their_first_event(app: AppServer) -> None:
    metrics = requests.get(f"{app.url}/metrics", timeout=10).text

    assert 'session_cache_requests_total{result="hit_no_mentorado"} 0.0' in metrics
    assert 'mentorado_ensure_total{entry="page",outcome="failed"} 0.0' in metrics


def test_restart_resets_counters_except_those_of_sweeps(url: str, tmp_path: Path) -> None:
    with run_test_app(tmp_path, DATABASE_URL=url, SWEEP_INTERVAL_SECONDS="1") as before:
        request_as(before, DevUser("user_before"))
        assert eventually(lambda: metric_value(before, "sweep_runs_total") >= 1, seconds=30)

    with run_test_app(tmp_path, DATABASE_URL=url, SCHEDULER="off") as after:
        assert (created_profiles(after), metric_value(after, "sweep_runs_total") >= 1) == (0, True)


def test_scheduler_process_counts_into_the_same_metrics(app: AppServer, url: str) -> None:
    with connect_to(url) as connection:
        connection.execute(text("INSERT INTO users (clerk_id) VALUES ('user_without_profile')"))

    before = created_profiles(app, "sweep")

    with scheduler_process(app, url):
        assert eventually(lambda: created_profiles(app, "sweep") > before, seconds=30)


@contextmanager
def scheduler_process(app: AppServer, url: str) -> Iterator[None]:
    """Run `flask scheduler` on the same host."""
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
