"""The flask commands for sweeps, tokens, demo data and automatic creation."""

import json
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import jwt
import pytest
from flask import Flask
from flask.testing import FlaskClient, FlaskCliRunner
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from benchmarks.databases import count
from models import AuditEvent, Mentorado, SweepRun, User
from models.people import Role
from tests.support.apps import create_app_on
from tests.support.types import Sign
from tests.support.users import ALICE
from web.services import Services

LONG_AGO = func.now() - timedelta(minutes=5)


@pytest.fixture
def runner(app: Flask, session: Session) -> FlaskCliRunner:
    """A runner of commands inside the test's transaction."""
    return app.test_cli_runner()


@pytest.fixture
def production(tmp_path: Path, template_url: str) -> Iterator[FlaskCliRunner]:
    """A runner of commands in production."""
    settings = {
        "app_env": "production",
        "secret_key": "s",
        "clerk_publishable_key": "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k",
        "clerk_secret_key": "sk_live_x",
    }
    with create_app_on(tmp_path, template_url, **settings) as app:
        yield app.test_cli_runner()


def test_sweep_prints_its_counts_as_json(runner: FlaskCliRunner, session: Session) -> None:
    session.add(User(clerk_id="user_x"))
    session.commit()

    output = runner.invoke(args=["sweep", "--json"]).output

    counts = json.loads(output.splitlines()[-1])
    assert (counts["total"], counts["created"]) == (1, 1)


def test_dry_sweep_writes_no_profile(runner: FlaskCliRunner, session: Session) -> None:
    session.add(User(clerk_id="user_x"))
    session.commit()

    runner.invoke(args=["sweep", "--dry-run"])

    assert session.scalars(select(func.count()).select_from(Mentorado)).one() == 0


def test_sweep_during_a_running_one_is_refused(runner: FlaskCliRunner, session: Session) -> None:
    session.add(SweepRun(status="running", trigger="clock", owner="x", heartbeat_at=func.now()))
    session.commit()

    result = runner.invoke(args=["sweep"])

    assert (result.exit_code, "is running in another process" in result.output) == (1, True)


@pytest.mark.parametrize(
    "columns",
    [
        {"status": "queued", "trigger": "admin"},
        {"status": "queued", "trigger": "clock"},
        {"status": "running", "trigger": "cli", "owner": "x"},
        {"status": "running", "trigger": "admin", "heartbeat_at": LONG_AGO, "dry_run": True},
    ],
    ids=["queued", "given back", "never alive", "dead"],
)
def test_sweep_takes_over_a_queued_or_dead_run(
    runner: FlaskCliRunner, session: Session, columns: dict[str, object]
) -> None:
    session.add(SweepRun(**columns))
    session.add(User(clerk_id="user_x"))
    session.commit()

    result = runner.invoke(args=["sweep", "--json"])

    counts = json.loads(result.output.splitlines()[-1])
    assert (result.exit_code, counts["created"]) == (0, 1)
    active = select(func.count()).where(SweepRun.status.in_(("queued", "running")))
    assert session.scalars(active).one() == 0


def test_dry_sweep_during_a_queued_one_writes_nothing(
    runner: FlaskCliRunner, session: Session
) -> None:
    session.add(SweepRun(status="queued", trigger="admin"))
    session.add(User(clerk_id="user_x"))
    session.commit()

    result = runner.invoke(args=["sweep", "--dry-run", "--json"])

    assert (result.exit_code, json.loads(result.output.splitlines()[-1])["created"]) == (0, 1)
    assert session.scalars(select(func.count()).select_from(Mentorado)).one() == 0
    assert session.scalars(select(SweepRun.status)).all() == ["queued"]


def test_token_has_the_claims_of_the_user(runner: FlaskCliRunner) -> None:
    args = ["token", "user_x", "--email", "x@example.com", "--name", "Xis", "--unverified"]

    token = runner.invoke(args=args).output.strip()

    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["sub"], claims["email"], claims["email_verified"], claims["name"]) == (
        "user_x",
        "x@example.com",
        False,
        "Xis",
    )


def test_admin_token_grants_the_role_and_writes_an_audit_event(
    runner: FlaskCliRunner, session: Session
) -> None:
    runner.invoke(args=["token", "user_x", "--admin"])

    user = session.scalars(select(User)).one()
    assert (user.role, user.admin_by_address) == (Role.ADMIN, False)
    assert session.scalars(select(AuditEvent.entry)).all() == ["cli"]


@pytest.mark.parametrize("subject", ["", "u" * 65])
def test_token_for_an_impossible_subject_is_refused(runner: FlaskCliRunner, subject: str) -> None:
    assert runner.invoke(args=["token", subject]).exit_code == 2


@pytest.mark.parametrize("command", [["token", "user_x"], ["demo"]])
def test_development_commands_are_refused_in_production(
    production: FlaskCliRunner, command: list[str]
) -> None:
    result = production.invoke(args=command)

    assert (result.exit_code, "never in production" in result.output) == (1, True)


def test_demo_data_is_written_once(tmp_path: Path, copy_database: Callable[[str], str]) -> None:
    url = copy_database("demo")
    with create_app_on(tmp_path, url) as app:
        outputs = [app.test_cli_runner().invoke(args=["demo"]).output for _ in range(2)]

    assert ("written" in outputs[0], "already" in outputs[1]) == (True, True)
    assert count(url, "SELECT count(*) FROM metricas_mensais") == 8


def test_auto_create_off_is_stored_and_audited(runner: FlaskCliRunner, session: Session) -> None:
    runner.invoke(args=["auto-create", "off"])

    output = runner.invoke(args=["auto-create", "status"]).stdout
    details = session.scalars(select(AuditEvent.details)).all()
    assert (output, details) == ("auto-create is off\n", [{"enabled": False}])


def test_auto_create_is_on_by_default(runner: FlaskCliRunner) -> None:
    assert runner.invoke(args=["auto-create", "status"]).stdout == "auto-create is on\n"


def test_status_names_the_setting_that_overrides_auto_create(
    tmp_path: Path, template_url: str
) -> None:
    with create_app_on(tmp_path, template_url, enable_auto_create=False) as app:
        output = app.test_cli_runner().invoke(args=["auto-create", "status"]).output

    assert "ENABLE_AUTO_CREATE=false keeps it off" in output


def test_sweep_restores_the_signal_handlers(runner: FlaskCliRunner) -> None:
    before = signal.getsignal(signal.SIGTERM)

    runner.invoke(args=["sweep"])

    assert signal.getsignal(signal.SIGTERM) == before


def test_sweep_without_database_is_a_one_line_error(tmp_path: Path) -> None:
    with create_app_on(tmp_path, "postgresql+psycopg2://nobody@127.0.0.1:1/none") as app:
        result = app.test_cli_runner().invoke(args=["sweep"])

    reason = "database none on 127.0.0.1:1 cannot be reached: Connection refused"
    last_line = result.output.splitlines()[-1]
    assert (result.exit_code, last_line) == (1, f"Error: the sweep did not finish: {reason}")


def test_granted_role_is_effective_at_the_next_request(
    runner: FlaskCliRunner, client: FlaskClient, alice: Mentorado, sign: Sign
) -> None:
    client.get("/api/auth/me", headers=sign(ALICE))

    runner.invoke(args=["token", ALICE.clerk_id, "--admin"])

    me = client.get("/api/auth/me", headers=sign(ALICE)).json or {}
    assert me["user"]["role"] == "admin"


def test_shell_context_has_the_models_and_the_services(app: Flask, services: Services) -> None:
    with app.app_context():
        context = app.make_shell_context()

    assert (context["Mentorado"], context["services"]) == (Mentorado, services)


@pytest.mark.parametrize(
    "command", ["sweep", "scheduler", "doctor", "admin", "auto-create", "demo", "token"]
)
def test_help_has_an_explanation(runner: FlaskCliRunner, command: str) -> None:
    explanation, _, _ = runner.invoke(args=[command, "--help"]).output.partition("Options:")

    assert len(explanation.split()) > 30
