"""Starting and stopping: one clear error line, and no process left running."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from benchmarks.servers import (
    PROJECT,
    child_environment,
    eventually,
    free_port,
    has_ended,
    run_app,
    stop,
    wait_for,
)
from core.config import load_config
from dev.fake_clerk import PUBLISHABLE_KEY
from scripts import install
from web.startup import warn_of_insecure_settings

Attempt = subprocess.CompletedProcess[str]


@pytest.fixture
def busy_port() -> Iterator[int]:
    """A port on which another socket listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def attempt(module: str, *args: str, folder: Path, **settings: str) -> Attempt:
    """Run a command of the app until it ends."""
    return subprocess.run(
        [sys.executable, "-m", module, *args],
        cwd=PROJECT,
        env=child_environment({"INSTANCE_PATH": str(folder), **settings}),
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )


def start_server(folder: Path, **settings: str) -> Attempt:
    """Start gunicorn with these settings."""
    return attempt("gunicorn", "wsgi:app", folder=folder, **settings)


def test_busy_port_gives_one_clear_line(tmp_path: Path, busy_port: int) -> None:
    failed = start_server(tmp_path, BIND=f"127.0.0.1:{busy_port}")

    assert failed.returncode == 1
    assert failed.stderr == (
        f"neon-dashboard: 127.0.0.1:{busy_port} is in use; stop that program or set BIND\n"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("DATABASE_URL", "mysql://x/y"), ("SWEEP_INTERVAL_SECONDS", "soon"), ("BIND", "8000")],
)
def test_bad_setting_gives_one_line_that_names_it(tmp_path: Path, name: str, value: str) -> None:
    failed = start_server(tmp_path, **{name: value})

    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert failed.stderr.startswith(f"neon-dashboard: {name}: ")


def test_development_provider_refuses_a_public_address_of_the_command_line(tmp_path: Path) -> None:
    failed = attempt("gunicorn", "-b", "0.0.0.0:8000", "wsgi:app", folder=tmp_path)

    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert failed.stderr.startswith("neon-dashboard: 0.0.0.0:8000: without CLERK_PUBLISHABLE_KEY")


def test_insecure_settings_are_logged_at_the_start() -> None:
    settings = {
        "APP_ENV": "production",
        "DATABASE_URL": "postgresql://db.example.com/neon",
        "CLERK_PUBLISHABLE_KEY": PUBLISHABLE_KEY,
        "CLERK_SECRET_KEY": "sk_test_x",
        "SECRET_KEY": "short",
    }

    with capture_logs() as logs:
        warn_of_insecure_settings(load_config(settings, dotenv=None))

    assert {line["event"] for line in logs} == {"insecure_setting"}
    assert {line["setting"] for line in logs} == {
        "CLERK_PUBLISHABLE_KEY",
        "CLERK_AUTHORIZED_PARTIES",
        "SECRET_KEY",
    }


def test_flask_commands_name_a_bad_setting_too(tmp_path: Path) -> None:
    failed = attempt("flask", "sweep", folder=tmp_path, ENROLMENT="closed")

    assert failed.returncode == 1
    assert failed.stderr.startswith("neon-dashboard: ENROLMENT: ")


def test_production_packages_without_a_database_give_one_clear_line(tmp_path: Path) -> None:
    program = "import sys; sys.modules['psutil'] = None; import wsgi"
    failed = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        env=child_environment({"INSTANCE_PATH": str(tmp_path)}),
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert failed.returncode == 1
    assert failed.stderr.startswith("neon-dashboard: DATABASE_URL: is not set, and no embedded ")
    assert failed.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [("gunicorn", "wsgi:app"), ("flask", "sweep")])
def test_unwritable_folder_gives_one_clear_line(command: tuple[str, str]) -> None:
    failed = attempt(*command, folder=Path("/proc/nowhere"))

    *before, last = failed.stderr.splitlines()
    assert failed.returncode == 1
    assert last.startswith("neon-dashboard: cannot write /proc/nowhere: ")
    assert [line for line in before if "counters_kept_in_memory" not in line] == []


def test_production_without_its_settings_does_not_start(tmp_path: Path) -> None:
    failed = start_server(tmp_path, APP_ENV="production")

    assert failed.returncode == 1
    assert "DATABASE_URL, CLERK_PUBLISHABLE_KEY, CLERK_SECRET_KEY, SECRET_KEY" in failed.stderr


IMPORTED_BY_A_START = """
import runpy, sys
runpy.run_path("gunicorn.conf.py")
import wsgi
print(*{name.partition(".")[0] for name in sys.modules})
"""


def test_production_start_imports_nothing_of_development_and_no_commands(tmp_path: Path) -> None:
    settings = {
        "APP_ENV": "production",
        "DATABASE_URL": "postgresql://127.0.0.1:1/none",
        "CLERK_PUBLISHABLE_KEY": PUBLISHABLE_KEY,
        "CLERK_SECRET_KEY": "sk_test_x",
        "SECRET_KEY": "s" * 40,
        "INSTANCE_PATH": str(tmp_path),
    }

    imported = subprocess.run(
        [sys.executable, "-c", IMPORTED_BY_A_START],
        cwd=PROJECT,
        env=child_environment(settings),
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()

    assert {"app", "blueprints", "gunicorn"} <= set(imported)
    assert {"dev", "cli", "alembic", "flask_migrate", "openapi_pydantic", "psutil"} & {
        *imported
    } == set()


def test_ctrl_c_stops_the_server_and_its_database(tmp_path: Path) -> None:
    with run_app(tmp_path) as app:
        pid = int((tmp_path / "postgres" / "postmaster.pid").read_text().split()[0])
        server, was_running = psutil.Process(pid), psutil.pid_exists(pid)
        os.kill(app.process.pid, signal.SIGINT)
        app.process.wait(timeout=20)

    assert (was_running, app.process.returncode) == (True, 0)
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE


def test_embedded_database_is_ready_at_the_first_start(tmp_path: Path) -> None:
    with run_app(tmp_path) as app:
        output = app.log.read_text()

    assert f"Neon Dashboard  {app.url}" in output
    assert "Dona Admin" in output


def test_flask_run_with_the_factory_serves_a_fresh_folder(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "flask.log"
    command = [sys.executable, "-m", "flask", "--app", "app", "run", "--port", str(port)]
    environment = child_environment({"INSTANCE_PATH": str(tmp_path)})
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdout=output, stderr=output
        )
    try:
        answer = wait_for(f"http://127.0.0.1:{port}/readyz")
        pid = int((tmp_path / "postgres" / "postmaster.pid").read_text().split()[0])
        server = psutil.Process(pid)
    finally:
        stop(process)

    assert eventually(lambda: has_ended(server))
    assert answer.json()["checks"]["database"] == "ok"
    assert f"Neon Dashboard  http://127.0.0.1:{port}" in log.read_text()


@pytest.mark.parametrize("module", ["gunicorn", "flask"])
def test_missing_database_url_gives_one_clear_line(tmp_path: Path, module: str) -> None:
    arguments = {"gunicorn": ["wsgi:app"], "flask": ["db", "upgrade"]}[module]
    failed = attempt(module, *arguments, folder=tmp_path, SECRET_KEY="of-a-server")

    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == (
        "neon-dashboard: DATABASE_URL: is not set, but SECRET_KEY is; "
        "set APP_ENV=development to use the embedded database\n"
    )


def test_missing_venv_module_gives_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "venv", None)  # as if it were not installed

    with pytest.raises(SystemExit, match="Python's venv module is missing"):
        install.refuse_unfit_machine()


def test_old_python_gives_one_clear_line() -> None:
    with pytest.raises(SystemExit, match="or newer is needed"):
        install.refuse_unfit_machine(oldest=(99, 0))


def test_folder_that_cannot_be_written_gives_one_clear_line() -> None:
    with pytest.raises(SystemExit, match="cannot be written"):
        install.refuse_unfit_machine(venv=Path("/proc/nowhere/.venv"))
