"""The commands `flask admin`, `flask doctor` and `flask sweep --directory`."""

import base64
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskCliRunner
from pydantic import SecretStr
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app import create_app
from auth.errors import ProviderUnavailableError
from benchmarks.databases import connect_to, count
from core.config import Config
from core.database import background_transaction, db
from core.email_address import normalize_address
from dev.fake_clerk import PUBLISHABLE_KEY, DevUser
from models import SweepRun, User
from models.people import Role
from tests.support.apps import create_app_on
from tests.support.clerk_server import BackendFault, Clerk, run_clerk
from tests.support.types import Sign
from tests.support.users import ALICE, BOB, NOW, failed_attempt
from web.services import EXTENSION

# Of an instance whose frontend API has a name of its own, so that its account portal is unknown.
OTHER_HOST_KEY = "pk_test_" + base64.b64encode(b"login.example.com$").decode()


@pytest.fixture
def runner(app: Flask, session: Session) -> FlaskCliRunner:
    """A runner of commands inside the test's transaction."""
    return app.test_cli_runner()


@pytest.fixture
def clerk(tmp_path: Path) -> Iterator[Clerk]:
    """A development identity provider of this test."""
    with run_clerk(tmp_path / "clerk") as clerk:
        yield clerk


def settings_of(clerk: Clerk, **changes: object) -> dict[str, object]:
    return {**{name.lower(): value for name, value in clerk.settings.items()}, **changes}


def run_checks(runner: FlaskCliRunner, *command: str) -> tuple[int, dict[str, str]]:
    """Run a command and return its exit code and the result of each check."""
    result = runner.invoke(args=[*command])
    checks = {line[6:20].strip(): line[:4].strip() for line in result.output.splitlines()}
    return result.exit_code, checks


def test_granted_admin_has_access_at_the_next_request(
    app: Flask, runner: FlaskCliRunner, sign: Sign
) -> None:
    client = app.test_client()
    before = client.get("/api/admin/sweeps", headers=sign(ALICE)).status_code

    runner.invoke(args=["admin", "grant", "ALICE@example.com"])

    after = client.get("/api/admin/sweeps", headers=sign(ALICE)).status_code
    assert (before, after) == (403, 200)


def test_revoked_admin_has_no_access_at_the_next_request(
    app: Flask, runner: FlaskCliRunner, sign: Sign
) -> None:
    client = app.test_client()
    client.get("/api/auth/me", headers=sign(ALICE))
    runner.invoke(args=["admin", "grant", "alice@example.com"])

    runner.invoke(args=["admin", "revoke", "alice@example.com"])

    assert client.get("/api/admin/sweeps", headers=sign(ALICE)).status_code == 403


@pytest.fixture
def same_address_users(session: Session) -> list[User]:
    """Two accounts with one address; the second has not verified it."""
    checks = [
        User(clerk_id="user_1st", name="Ana Um", email="ana@bücher.de", email_verified=True),
        User(clerk_id="user_2nd", name="Ana Dois", email="ANA@xn--bcher-kva.de"),
    ]
    session.add_all(checks)
    session.commit()
    return checks


def roles(session: Session) -> list[str]:
    session.expire_all()
    return [role.value for role in session.scalars(select(User.role).order_by(User.id))]


@pytest.mark.parametrize("command", ["grant", "revoke"])
def test_address_without_account_is_a_one_line_error(runner: FlaskCliRunner, command: str) -> None:
    result = runner.invoke(args=["admin", command, "nobody@example.com"])

    assert (result.exit_code, result.output.count("\n")) == (1, 1)


@pytest.mark.parametrize(("command", "role"), [("grant", Role.USER), ("revoke", Role.ADMIN)])
def test_several_accounts_of_an_address_are_listed_and_not_changed(
    runner: FlaskCliRunner,
    session: Session,
    same_address_users: list[User],
    command: str,
    role: Role,
) -> None:
    session.execute(update(User).values(role=role))
    session.commit()

    result = runner.invoke(args=["admin", command, "ana@bücher.de"])

    first, second = same_address_users
    assert (result.exit_code, roles(session)) == (1, [role.value, role.value])
    assert result.output.splitlines()[1:] == [
        f"  user {first.id} (user_1st, Ana Um, ana@bücher.de, verified)",
        f"  user {second.id} (user_2nd, Ana Dois, ANA@xn--bcher-kva.de, not verified)",
    ]


@pytest.mark.parametrize("by", ["id", "clerk_id"])
def test_one_of_several_accounts_is_chosen_by_its_id(
    runner: FlaskCliRunner, session: Session, same_address_users: list[User], by: str
) -> None:
    identifier = str(getattr(same_address_users[1], by))

    outputs = []
    for command in ("grant", "revoke"):
        outputs.append(runner.invoke(args=["admin", command, identifier]).stdout.splitlines()[-1])
        outputs.append(" ".join(roles(session)))

    description = (
        f"user {same_address_users[1].id} (user_2nd, Ana Dois, ANA@xn--bcher-kva.de, not verified)"
    )
    assert outputs == [
        f"{description} is an admin",
        "user admin",
        f"{description} is no admin any longer",
        "user user",
    ]


def test_unverified_address_is_not_granted_admin(runner: FlaskCliRunner, session: Session) -> None:
    session.add(User(clerk_id="user_x", email="x@example.com"))
    session.commit()

    result = runner.invoke(args=["admin", "grant", "x@example.com"])

    assert (result.exit_code, roles(session)) == (1, ["user"])
    assert "user_x" in result.output


@pytest.mark.parametrize(
    "look_alike",
    ["ａna@example.com", "ana@exａmple.com", "\u212ana@example.com", "anа@example.com"],
    ids=ascii,
)
def test_look_alike_address_is_not_granted_admin(
    runner: FlaskCliRunner, session: Session, look_alike: str
) -> None:
    session.add(User(clerk_id="user_x", email=look_alike, email_verified=True))
    session.commit()

    results = [
        runner.invoke(args=["admin", "grant", address]).exit_code
        for address in ("ana@example.com", "kna@example.com")
    ]

    assert (results, roles(session)) == ([1, 1], ["user"])


@pytest.mark.parametrize("command", ["grant", "revoke"])
@pytest.mark.parametrize(
    ("address", "code_point"),
    [("a\u200b@x.com", "U+200B"), ("a@x.com;", "U+003B"), ("<a@x.com>", "U+003C")],
    ids=ascii,
)
def test_error_names_the_forbidden_character_of_an_address(
    runner: FlaskCliRunner, command: str, address: str, code_point: str
) -> None:
    result = runner.invoke(args=["admin", command, address])

    assert result.exit_code == 1
    assert code_point in result.output


def test_argument_that_is_no_address_and_no_id_is_a_one_line_error(runner: FlaskCliRunner) -> None:
    result = runner.invoke(args=["admin", "grant", "user\udcff"])

    assert (result.exit_code, result.output.count("\n")) == (1, 1)


def test_revoke_warns_if_the_address_is_listed(tmp_path: Path, url: str) -> None:
    listed = normalize_address("Ana@Bücher.de")
    with create_app_on(tmp_path, url, admin_emails=frozenset([listed])) as app:
        with background_transaction() as session:
            session.add(User(clerk_id="user_a", email="ana@xn--bcher-kva.de", email_verified=True))
        output = app.test_cli_runner().invoke(args=["admin", "revoke", "ana@bücher.de"]).output

    assert "is listed in ADMIN_EMAILS" in output


def test_doctor_reports_no_failure_in_development(runner: FlaskCliRunner) -> None:
    exit_code, checks = run_checks(runner, "doctor")

    checks.pop("round trip")  # long on a busy machine
    parts = ["environment", "database", "redis", "connection", "lc_ctype", "migrations"]
    parts += ["sweep", "duplicates", "backlog"]
    assert (exit_code, checks) == (0, {**dict.fromkeys(parts, "ok"), "clerk": "warn"})


def test_doctor_names_environment_and_database(runner: FlaskCliRunner) -> None:
    output = runner.invoke(args=["doctor"]).output

    assert re.search(r"^ok    environment    development$", output, re.MULTILINE)
    assert re.search(r"^ok    database       database web on /", output, re.MULTILINE)


def test_doctor_warns_about_the_development_identity_provider(
    runner: FlaskCliRunner,
) -> None:
    output = runner.invoke(args=["doctor"]).output

    assert "anybody who reaches this address can sign in as anybody, admins included" in output


def test_doctor_warns_about_insecure_production_settings(tmp_path: Path, url: str) -> None:
    settings: dict[str, object] = {
        "app_env": "production",
        "secret_key": "short",
        "clerk_publishable_key": PUBLISHABLE_KEY,
        "clerk_secret_key": "sk_test_x",
        "clerk_jwks_url": "http://127.0.0.1:1/jwks.json",
        "clerk_api_url": "http://127.0.0.1:1",
    }
    with create_app_on(tmp_path, url, **settings) as app:
        output = app.test_cli_runner().invoke(args=["doctor"]).output

    warnings = {line.split()[1] for line in output.splitlines() if line.startswith("warn")}
    assert warnings == {
        "CLERK_PUBLISHABLE_KEY",
        "CLERK_AUTHORIZED_PARTIES",
        "CLERK_JWKS_URL",
        "SECRET_KEY",
    }


def test_doctor_explains_a_read_only_database(
    tmp_path: Path, copy_database: Callable[[str], str]
) -> None:
    name = f"read_only_doctor_{tmp_path.name}"
    url = copy_database(name)
    with connect_to(url) as other:
        other.exec_driver_sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')

    with create_app_on(tmp_path, url) as app:
        result = app.test_cli_runner().invoke(args=["doctor"])

    assert (result.exit_code, "FAIL  database" in result.output) == (1, True)
    assert "is read-only: a standby, or default_transaction_read_only" in result.output


# Values with which the Clerk client may raise any error.
INVALID_SETTINGS: list[dict[str, object]] = [
    {"clerk_secret_key": "sk_live_…"},
    {"clerk_secret_key": "sk_test_a\nb"},
    {"clerk_api_url": "http://127.0.0.1:99999999"},
    {"clerk_api_url": "http://[::1"},
    {"clerk_api_url": "http://" + "a" * 300},
    {"clerk_jwks_url": "http://127.0.0.1:99999999"},
    {"clerk_jwks_url": "nonsense"},
]


@pytest.mark.parametrize("invalid", INVALID_SETTINGS, ids=ascii)
def test_any_error_of_the_clerk_client_is_reported_in_one_line(
    tmp_path: Path,
    url: str,
    clerk: Clerk,
    invalid: dict[str, object],
) -> None:
    settings = Config.model_validate(
        {"instance_path": tmp_path, "database_url": url, **settings_of(clerk)}
    )
    values = {n: SecretStr(str(v)) if n == "clerk_secret_key" else v for n, v in invalid.items()}
    app = create_app(settings.model_copy(update=values))  # without validation
    with app.app_context():
        result = app.test_cli_runner().invoke(args=["doctor"])
        with suppress(ProviderUnavailableError):  # the command reports it, and no other error
            app.extensions[EXTENSION].provisioning.directory.page(0, 1)
        db.engine.dispose()

    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert "…" not in result.output.partition("clerk api")[2]


def minutes_ago(number: float) -> object:
    return func.now() - timedelta(minutes=number)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"status": "queued", "created_at": minutes_ago(5)}, "taken by no scheduler, for 0:05:00"),
        ({"status": "running", "heartbeat_at": minutes_ago(5)}, "its process has died, for 0:05:"),
    ],
    ids=["queued", "dead"],
)
def test_doctor_reports_a_stalled_sweep(
    runner: FlaskCliRunner, session: Session, columns: dict[str, object], message: str
) -> None:
    session.add(SweepRun(trigger="admin", **columns))
    session.commit()

    result = runner.invoke(args=["doctor"])

    [line] = [line for line in result.output.splitlines() if line[6:11] == "sweep"]
    assert (result.exit_code, line[:4], message in line) == (1, "FAIL", True)
    assert "run flask sweep" in line


@pytest.mark.parametrize(
    "columns",
    [
        {"status": "queued"},
        {"status": "queued", "created_at": minutes_ago(60), "heartbeat_at": minutes_ago(0.1)},
        {"status": "running", "heartbeat_at": minutes_ago(0.1)},
        {"status": "succeeded", "finished_at": minutes_ago(600)},
    ],
    ids=["queued", "given back", "at work", "long ago"],
)
def test_doctor_accepts_an_active_sweep(
    runner: FlaskCliRunner, session: Session, columns: dict[str, object]
) -> None:
    session.add(SweepRun(trigger="clock", **columns))
    session.commit()

    assert run_checks(runner, "doctor")[1]["sweep"] == "ok"


def test_doctor_names_a_refused_secret_key(tmp_path: Path, url: str, clerk: Clerk) -> None:
    clerk.fault = BackendFault("401 Unauthorized")

    with create_app_on(tmp_path, url, **settings_of(clerk)) as app:
        result = app.test_cli_runner().invoke(args=["doctor"])

    assert "status 401: CLERK_SECRET_KEY is refused" in result.output


def test_doctor_names_keys_of_two_instances(tmp_path: Path, url: str, clerk: Clerk) -> None:
    with run_clerk(tmp_path / "other") as other:
        secret = other.settings["CLERK_SECRET_KEY"]
        settings = settings_of(clerk, clerk_api_url=other.url, clerk_secret_key=secret)
        with create_app_on(tmp_path, url, **settings) as app:
            result = app.test_cli_runner().invoke(args=["doctor"])

    assert result.exit_code == 1
    assert "copy CLERK_PUBLISHABLE_KEY and CLERK_SECRET_KEY from one instance" in result.output


def test_doctor_reports_a_user_without_profile(runner: FlaskCliRunner, session: Session) -> None:
    session.add(User(clerk_id="user_waiting", created_at=NOW))
    session.commit()

    exit_code, checks = run_checks(runner, "doctor")

    assert (exit_code, checks["backlog"]) == (1, "FAIL")


def test_doctor_reports_a_dead_letter(runner: FlaskCliRunner, session: Session) -> None:
    session.add(failed_attempt("x"))
    session.commit()

    assert run_checks(runner, "doctor")[1]["backlog"] == "FAIL"


def test_doctor_reports_missing_migrations(
    tmp_path: Path, new_database: Callable[[str], str]
) -> None:
    with create_app_on(tmp_path, new_database(f"empty_{tmp_path.name}")) as app:
        exit_code, checks = run_checks(app.test_cli_runner(), "doctor")

    assert (exit_code, checks["database"], checks["migrations"]) == (1, "ok", "FAIL")


def test_doctor_reports_an_unreachable_database(tmp_path: Path) -> None:
    with create_app_on(tmp_path, "postgresql://127.0.0.1:1/none") as app:
        exit_code, checks = run_checks(app.test_cli_runner(), "doctor")

    assert (exit_code, checks["database"]) == (1, "FAIL")


def test_doctor_accepts_correct_clerk_settings(tmp_path: Path, url: str, clerk: Clerk) -> None:
    with create_app_on(tmp_path, url, **settings_of(clerk)) as app:
        exit_code, checks = run_checks(app.test_cli_runner(), "doctor")

    parts = ["keys", "jwks", "api", "sign-in", "origins", "webhook"]
    assert [checks[f"clerk {part}"] for part in parts] == ["ok"] * 6
    assert (exit_code, checks["clock"]) == (0, "ok")


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"clerk_secret_key": None}, "clerk keys"),
        ({"clerk_secret_key": None}, "clerk api"),
        ({"clerk_secret_key": "sk_live_x"}, "clerk keys"),
        ({"clerk_secret_key": "sk_test_wrong"}, "clerk api"),
        ({"clerk_jwks_url": "http://127.0.0.1:1/jwks.json"}, "clerk jwks"),
        ({"clerk_sign_in_url": None, "clerk_publishable_key": OTHER_HOST_KEY}, "clerk sign-in"),
    ],
)
def test_doctor_names_a_wrong_clerk_setting(
    tmp_path: Path, url: str, clerk: Clerk, changes: dict[str, object], part: str
) -> None:
    with create_app_on(tmp_path, url, **settings_of(clerk, **changes)) as app:
        exit_code, checks = run_checks(app.test_cli_runner(), "doctor")

    assert (exit_code, checks[part]) == (1, "FAIL")


LINKED = "SELECT count(*) FROM mentorados WHERE nome_completo = 'Alice Pré' AND user_id IS NOT NULL"
ADMINS = "SELECT count(*) FROM users WHERE role = 'admin'"


def test_directory_sync_adds_unknown_users(tmp_path: Path, url: str, clerk: Clerk) -> None:
    for user in (ALICE, BOB, DevUser("user_eva", "Eva", "eva@example.com")):
        clerk.provider.save_user(user)

    with create_app_on(tmp_path, url, **settings_of(clerk)) as app:
        output = app.test_cli_runner().invoke(args=["sweep", "--directory"]).output

    assert "directory: 3 read, 3 taken in, 0 failed" in output
    assert count(url, "SELECT count(user_id) FROM mentorados WHERE nome_completo <> 'X'") == 3


def test_directory_sync_skips_unchanged_users(tmp_path: Path, url: str, clerk: Clerk) -> None:
    clerk.provider.save_user(ALICE)

    with create_app_on(tmp_path, url, **settings_of(clerk)) as app:
        app.test_cli_runner().invoke(args=["sweep", "--directory"])
        second_output = app.test_cli_runner().invoke(args=["sweep", "--directory"]).output

    assert "directory: 1 read, 0 taken in, 0 failed" in second_output


def test_directory_sync_applies_changes(tmp_path: Path, url: str, clerk: Clerk) -> None:
    clerk.provider.save_user(replace(ALICE, email_verified=False))
    clerk.provider.save_user(BOB)
    preregistration = """
        INSERT INTO mentorados (nome_completo, email, turma)
        VALUES ('Alice Pré', 'alice@example.com', 'neon')
    """
    with connect_to(url) as connection:
        connection.exec_driver_sql(preregistration)

    with create_app_on(tmp_path, url, admin_emails=BOB.email, **settings_of(clerk)) as app:
        app.test_cli_runner().invoke(args=["sweep", "--directory"])
        before = (count(url, LINKED), count(url, ADMINS))
        clerk.provider.save_user(ALICE)
        clerk.provider.save_user(replace(BOB, email=None))
        output = app.test_cli_runner().invoke(args=["sweep", "--directory"]).output

    assert "directory: 2 read, 2 taken in, 0 failed" in output
    assert (before, count(url, LINKED), count(url, ADMINS)) == ((0, 1), 1, 0)


def test_directory_sync_waits_when_rate_limited(tmp_path: Path, url: str, clerk: Clerk) -> None:
    clerk.provider.save_user(ALICE)
    clerk.fault = BackendFault("429 Too Many Requests", [("Retry-After", "1")], times=1)

    with create_app_on(tmp_path, url, **settings_of(clerk)) as app:
        started = time.monotonic()
        output = app.test_cli_runner().invoke(args=["sweep", "--directory"]).output

    assert "directory: 1 read, 1 taken in, 0 failed" in output
    assert time.monotonic() - started >= 1


def test_failed_directory_sync_is_a_one_line_error(tmp_path: Path, url: str, clerk: Clerk) -> None:
    clerk.fault = BackendFault("429 Too Many Requests", [("Retry-After", "0")])

    with create_app_on(tmp_path, url, **settings_of(clerk)) as app:
        result = app.test_cli_runner().invoke(args=["sweep", "--directory"])

    last_line = result.output.splitlines()[-1]
    error = "Error: the directory was not read: RateLimitedError: "
    assert (result.exit_code, last_line.startswith(error)) == (1, True)
