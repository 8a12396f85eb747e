"""An idle installation sends its database nothing, so that a serverless one can suspend."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from benchmarks.databases import SimulatedNetwork, count
from benchmarks.servers import (
    PROJECT,
    AppServer,
    child_environment,
    eventually,
    request_as,
    run_app,
    stop,
)
from tests.support.clients import ADMIN

MONITORS = ("/metrics", "/readyz", "/healthz")
QUIET_SECONDS = 2.5  # the schedulers would have polled twice
SUCCEEDED = "SELECT count(*) FROM sweep_runs WHERE trigger = 'admin' AND status = 'succeeded'"


@pytest.fixture
def settings(relay: SimulatedNetwork) -> dict[str, str]:
    """Settings of an installation that is idle after three seconds."""
    return {"DATABASE_URL": relay.url, "DATABASE_IDLE_SECONDS": "3", "SCHEDULER": "off"}


@pytest.fixture
def app(settings: dict[str, str], tmp_path: Path) -> Iterator[AppServer]:
    """A web process that leaves sweeps to the scheduler."""
    with run_app(tmp_path, **settings) as app:
        yield app


@pytest.fixture
def scheduler(app: AppServer, settings: dict[str, str]) -> Iterator[None]:
    """A `flask scheduler` with the same instance folder."""
    with (app.instance / "scheduler.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flask", "scheduler"],
            cwd=PROJECT,
            env=child_environment({**settings, "INSTANCE_PATH": str(app.instance)}),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    yield
    stop(process)


def is_quiet(app: AppServer, relay: SimulatedNetwork) -> bool:
    """Return whether monitors get answers for a while and no statement is sent meanwhile."""
    before = relay.tally.statements

    def has_statement() -> bool:
        assert [requests.get(app.url + path, timeout=10).status_code for path in MONITORS] == [
            200
        ] * len(MONITORS)
        return relay.tally.statements != before

    return not eventually(has_statement, seconds=QUIET_SECONDS)


def is_awake(app: AppServer) -> bool:
    """Return whether the readiness check asks the database after a request."""
    request_as(app, ADMIN, "/api/auth/me", "GET")
    return "as_of" not in requests.get(app.url + "/readyz", timeout=10).json()


@pytest.mark.usefixtures("scheduler")
def test_idle_installation_answers_monitors_without_a_statement_and_wakes_for_an_admin(
    app: AppServer, relay: SimulatedNetwork, url: str
) -> None:
    assert eventually(lambda: is_quiet(app, relay), seconds=30)
    readiness = requests.get(app.url + "/readyz", timeout=10).json()
    metrics = requests.get(app.url + "/metrics", timeout=10).text

    queued = request_as(app, ADMIN, "/api/admin/sweeps", body={})

    assert (readiness["status"], "as_of" in readiness) == ("ok", True)
    assert "database_idle 1.0" in metrics
    assert "backlog_as_of_timestamp_seconds" in metrics
    assert queued.status_code == 202
    assert eventually(lambda: count(url, SUCCEEDED) == 1)
    assert eventually(lambda: is_awake(app))
    assert eventually(lambda: is_quiet(app, relay), seconds=30)
