"""A read-only database is an outage; full service resumes as soon as it accepts writes."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from flask import Flask
from flask_migrate import upgrade
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError
from svix.webhooks import Webhook
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from benchmarks.databases import REFUSE_PROFILES, connect_to, count
from benchmarks.servers import PostgresServer, eventually, start_postgres
from core.connection_pool import RENEWAL_SECONDS
from dev import postgres
from dev.fake_clerk import DevUser, clerk_user
from provisioning.audit import Source
from provisioning.errors import DatabaseUnavailableError
from provisioning.retry import is_outage
from sweep.sweeper import Sweeper
from tests.support.apps import create_app_on
from tests.support.users import ALICE, BOB, NOW, identity_of
from web.services import EXTENSION, Services

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
MONTH = "/api/mentorados/me/metricas/2026/1"
OVERVIEW = "/api/mentorados/me/overview"
BANNER = "por enquanto não dá para alterar nada"
ON = "SET default_transaction_read_only = on"
OFF = "RESET default_transaction_read_only"
RELOAD = "SELECT pg_reload_conf()"
TERMINATE_CONNECTIONS = """
SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
 WHERE application_name = 'neon-dashboard' AND datname = '{name}'
"""
PROFILES = "SELECT count(user_id) FROM mentorados"

BODIES = {
    "/api/admin/mentorados": {"nome_completo": "Bia"},
    "/api/admin/settings/auto-create": {"enabled": False},
}

Outage = Callable[[], AbstractContextManager[None]]


@contextmanager
def altered(server_url: str, begin: list[str], end: list[str]) -> Iterator[None]:
    """Run statements, and others at the end, in a session that may write."""
    with connect_to(server_url) as connection:
        for statement in begin:
            connection.exec_driver_sql(statement)
        try:
            yield
        finally:
            connection.exec_driver_sql("SET default_transaction_read_only = off")
            for statement in end:
                connection.exec_driver_sql(statement)


@pytest.fixture(params=["database", "role", "server"])
def outage(request: pytest.FixtureRequest, server_url: str, url: str) -> Outage:
    """Make the database read-only; only the server's setting also applies to open sessions."""
    name = make_url(url).database
    statement = {
        "database": f'ALTER DATABASE "{name}"',
        "role": f'ALTER ROLE postgres IN DATABASE "{name}"',
        "server": "ALTER SYSTEM",
    }[request.param]
    if request.param == "server":
        return lambda: altered(
            server_url, [f"{statement} {ON}", RELOAD], [f"{statement} {OFF}", RELOAD]
        )
    begin = [f"{statement} {ON}", TERMINATE_CONNECTIONS.format(name=name)]
    return lambda: altered(server_url, begin, [f"{statement} {OFF}"])


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    """An app on that database."""
    with create_app_on(tmp_path, url, clerk_webhook_secret=SECRET) as app:
        yield app


def services_of(app: Flask) -> Services:
    services: Services = app.extensions[EXTENSION]
    return services


def send(app: Flask, method: str, path: str, user: DevUser, json: object = None) -> TestResponse:
    provider = services_of(app).dev_provider
    assert provider is not None
    headers = {"Authorization": f"Bearer {provider.token(user)}"}
    return app.test_client().open(path, method=method, json=json, headers=headers)


def ensure(app: Flask, user: DevUser) -> TestResponse:
    return send(app, "POST", "/api/auth/ensure", user)


def save(app: Flask) -> TestResponse:
    return send(app, "PUT", MONTH, ALICE, {"faturamento": 1000})


def post_webhook(app: Flask) -> TestResponse:
    body, now = json.dumps({"type": "user.created", "data": clerk_user(BOB)}), datetime.now(UTC)
    headers = {
        "svix-id": "msg_1",
        "svix-timestamp": str(int(now.timestamp())),
        "svix-signature": Webhook(SECRET).sign("msg_1", now, body),
        "Content-Type": "application/json",
    }
    return app.test_client().post("/webhooks/clerk", data=body, headers=headers)


def is_database_unavailable(answer: TestResponse) -> bool:
    found = (answer.status_code, (answer.json or {}).get("code"), answer.headers.get("Retry-After"))
    return found == (503, "database_unavailable", "2")


def answer_other_than_503(send: Callable[[], TestResponse]) -> TestResponse:
    """Repeat a request while its answer is a 503, which a busy machine may cause, for ten tries."""
    answer = send()
    for _ in range(10):
        if answer.status_code != 503:
            break
        answer = send()
    return answer


def readiness(app: Flask) -> tuple[int, str]:
    answer = app.test_client().get("/readyz")
    return answer.status_code, (answer.json or {})["checks"]["database"]


@pytest.mark.real_time_limits
def test_writes_get_a_coded_503_and_service_resumes_after_the_outage(
    app: Flask, url: str, outage: Outage
) -> None:
    ensure(app, ALICE)

    with outage():
        refused = [save(app), ensure(app, BOB), ensure(app, ALICE), post_webhook(app)]
        during = readiness(app)
        service = services_of(app).provisioning
        with pytest.raises(DatabaseUnavailableError):
            service.ensure(identity_of(BOB), source=Source("sweep"), now=NOW)
    # New connections are kept for RENEWAL_SECONDS before they are replaced.
    assert eventually(lambda: readiness(app) == (200, "ok"), seconds=2 * RENEWAL_SECONDS)
    sends = (
        partial(save, app),
        partial(ensure, app, BOB),
        partial(ensure, app, ALICE),
        partial(post_webhook, app),
    )
    after = [answer_other_than_503(send) for send in sends]

    assert [answer.text for answer in refused if not is_database_unavailable(answer)] == []
    assert during == (503, "read_only")
    assert [answer.status_code for answer in after] == [200, 201, 200, 200]
    assert count(url, "SELECT count(*) FROM provisioning_attempts") == 0


@pytest.mark.real_time_limits
def test_first_write_after_the_outage_is_served(app: Flask, outage: Outage) -> None:
    ensure(app, ALICE)
    with outage():
        for _ in range(3):
            save(app)
            ensure(app, BOB)

    assert eventually(lambda: save(app).status_code == 200, seconds=2 * RENEWAL_SECONDS)


def test_connection_opened_as_read_only_is_replaced_before_a_write(
    app: Flask, outage: Outage
) -> None:
    ensure(app, ALICE)

    with outage():
        send(app, "GET", OVERVIEW, ALICE)  # a read causes no error that would reveal the outage

    assert eventually(lambda: save(app).status_code == 200, seconds=2 * RENEWAL_SECONDS)


def refuse_profiles(url: str, sqlstate: str) -> None:
    """Make the database refuse all profiles with this SQLSTATE."""
    with connect_to(url) as other:
        other.exec_driver_sql(REFUSE_PROFILES.replace("23514", sqlstate))


@pytest.mark.real_time_limits
@pytest.mark.parametrize("sqlstate", ["53100", "08006"])
def test_sqlstate_of_a_failing_server_is_an_outage(app: Flask, url: str, sqlstate: str) -> None:
    refuse_profiles(url, sqlstate)

    answers = [ensure(app, BOB), post_webhook(app)]

    assert [answer.text for answer in answers if not is_database_unavailable(answer)] == []
    assert count(url, "SELECT count(*) FROM provisioning_attempts") == 0


@pytest.mark.real_time_limits
@pytest.mark.parametrize("sqlstate", ["53200", "XX000"])
def test_sqlstate_that_one_user_may_cause_is_recorded(app: Flask, url: str, sqlstate: str) -> None:
    refuse_profiles(url, sqlstate)

    answer = ensure(app, BOB)

    assert (answer.status_code, (answer.json or {})["code"]) == (503, "provisioning_unavailable")
    assert count(url, "SELECT count(*) FROM provisioning_attempts") == 1


@pytest.mark.real_time_limits
@pytest.mark.parametrize("outage", ["server"], indirect=True)
def test_no_route_answers_with_status_500(app: Flask, url: str, outage: Outage) -> None:
    ensure(app, ALICE)
    with connect_to(url) as other:
        other.exec_driver_sql("UPDATE users SET role = 'admin'")
    assert (ensure(app, ALICE).json or {})["status"] == "ready"

    with outage():
        answers = {
            (method, rule.rule): send(app, method, path_of(rule), ALICE, BODIES.get(rule.rule, {}))
            for rule in app.url_map.iter_rules()
            for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}
        }

    assert [route for route, answer in answers.items() if answer.status_code == 500] == []
    written = [answers["POST", rule] for rule in ("/api/admin/sweeps", "/api/admin/mentorados")]
    written.append(answers["PUT", "/api/admin/settings/auto-create"])
    assert [answer.text for answer in written if not is_database_unavailable(answer)] == []


def path_of(rule: Rule) -> str:
    """Return a path of the route, with a value for each of its parameters."""
    values = {"filename": "css/site.css", "clerk_id": "user_x", "session_id": "s", "ano": "2026"}
    job = "00000000-0000-4000-8000-000000000000"
    values |= {"job_id": job, "kind": "pessoa", "subject": "pessoa"}
    return re.sub(r"<(?:[^<>]*:)?(\w+)>", lambda part: values.get(part[1], "1"), rule.rule)


@pytest.mark.real_time_limits
def test_own_dashboard_is_shown_as_read_only(app: Flask, outage: Outage) -> None:
    ensure(app, ALICE)
    save(app)
    numbers = send(app, "GET", OVERVIEW, ALICE).json or {}
    services_of(app).provisioning.contexts.store.remove(f"context:{ALICE.clerk_id}")

    with outage():
        overview = send(app, "GET", OVERVIEW, ALICE)
        page = send(app, "GET", "/dashboard", ALICE)
        unknown = send(app, "GET", "/dashboard", BOB)

    body = overview.json or {}
    assert (overview.status_code, body["read_only"], body["financials"]) == (
        200,
        True,
        numbers["financials"],
    )
    assert (page.status_code, BANNER in page.text) == (200, True)
    assert (unknown.status_code, unknown.headers["Retry-After"]) == (503, "2")


def test_sweep_stops_without_failed_attempts_and_continues_after_the_outage(
    app: Flask, url: str, server_url: str, outage: Outage
) -> None:
    with connect_to(url) as other:
        other.exec_driver_sql("INSERT INTO users (clerk_id) VALUES ('user_x'), ('user_y')")
    sweeper = Sweeper(services_of(app).provisioning)

    with outage(), pytest.raises(DBAPIError) as caught:
        sweeper.start("clock")
    assert eventually(lambda: readiness(app) == (200, "ok"), seconds=2 * RENEWAL_SECONDS)
    counts = sweeper.start("clock")

    assert (is_outage(caught.value), counts.created, counts.failed) == (True, 2, 0)
    assert count(url, PROFILES) == 2


@pytest.mark.parametrize("outage", ["server"], indirect=True)
def test_sweep_interrupted_by_an_outage_is_taken_over(app: Flask, url: str, outage: Outage) -> None:
    with connect_to(url) as other:
        other.exec_driver_sql("INSERT INTO users (clerk_id) VALUES ('user_x'), ('user_y')")
    service = services_of(app).provisioning

    with ExitStack() as stack:
        begin = iter([outage])

        def interrupt(_: object) -> None:
            for outage in begin:
                stack.enter_context(outage())

        with pytest.raises(DBAPIError):
            Sweeper(service, on_progress=interrupt).start("clock")
    with connect_to(url) as other:
        other.exec_driver_sql("UPDATE sweep_runs SET heartbeat_at = now() - interval '1 minute'")
    counts = Sweeper(service).run_if_due()

    assert counts is not None
    assert (counts.created, count(url, PROFILES)) == (2, 2)


def standby_of(primary: PostgresServer, folder: Path) -> PostgresServer:
    """Start a hot standby of the server in this folder."""
    data = folder / "postgres"
    folder.mkdir(mode=0o755)
    host = str(make_url(primary.url).query["host"])
    user = postgres._server_user(primary.folder)
    as_user = postgres._as_user(user)
    postgres._change_owner(folder, user)
    program = str(Path(postgres.program_path("postgres")).with_name("pg_basebackup"))
    subprocess.run(
        [*as_user, program, "-h", host, "-U", "postgres", "-D", data, "-R", "-c", "fast"],
        env=postgres.ENVIRONMENT,
        check=True,
        capture_output=True,
    )
    return PostgresServer(postgres.start(folder), folder)


@pytest.mark.real_time_limits
def test_promoted_standby_accepts_writes_without_a_restart(tmp_path: Path) -> None:
    with start_postgres(tmp_path / "primary") as primary:
        with create_app_on(tmp_path / "first", primary.url) as app:
            upgrade()
            ensure(app, ALICE)
        standby = standby_of(primary, tmp_path / "standby")
    try:
        with create_app_on(tmp_path / "second", standby.url) as app:
            refused = [save(app), ensure(app, BOB), ensure(app, ALICE)]
            during = readiness(app)
            assert count(standby.url, "SELECT pg_promote()::int") == 1
            is_back = eventually(lambda: ensure(app, BOB).status_code == 201, seconds=4)
            sends = (partial(ensure, app, ALICE), partial(save, app))
            after = [answer_other_than_503(send).status_code for send in sends]
            assert eventually(lambda: readiness(app) == (200, "ok"))
    finally:
        postgres.release(standby.folder)

    assert [answer.text for answer in refused if not is_database_unavailable(answer)] == []
    assert during == (503, "read_only")
    assert (is_back, after) == (True, [200, 200])
