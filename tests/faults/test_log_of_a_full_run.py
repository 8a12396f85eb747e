"""The log of a full run contains all events and no personal data or secrets."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from sqlalchemy import text

from benchmarks.databases import REFUSE_PROFILES, connect_to
from benchmarks.servers import (
    AppServer,
    RedisServer,
    eventually,
    logged_events,
    request_as,
    suspended,
)
from dev.fake_clerk import DevIdentityProvider, DevUser, clerk_user
from tests.support.clerk_server import send_webhook
from tests.support.clients import ADMIN
from tests.support.servers import run_test_app

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
REQUEST_ID = "browser-4711"

# Names and addresses that nothing else in the log could contain.
BIA = DevUser("user_one", "Bia Quintanilha", "bia.quintanilha@example.com")
EVA = DevUser("user_two", "Eva Zambrano", "eva.zambrano@example.com")
IVO = DevUser("user_three", "Ivo Xavantes", "ivo.xavantes@example.com")
LIA = DevUser("user_four", "Lia Wernecke", "lia.wernecke@example.com")
DORA = DevUser("user_five", "Dora Kubitsch", "dora.kubitsch@example.com")
ALL_USERS = (BIA, EVA, IVO, LIA, DORA)

TWINS = """
INSERT INTO mentorados (nome_completo, email, turma)
SELECT :name, :email, 'neon' FROM generate_series(1, 2)
"""
EXPECTED_EVENTS = {
    *("mentorado_created", "mentorado_linked", "mentorado_claimed", "mentorado_creation_failed"),
    *("mentorado_link_ambiguous", "cache_hit", "cache_miss", "session_invalidated"),
    *("sweep_started", "sweep_finished", "provisioning_dead_letter"),
    *("webhook_applied", "webhook_ignored", "webhook_refused", "auto_create_changed"),
    *("admin_action", "session_refused", "cache_error"),
}


@pytest.fixture
def app_after_events(url: str, tmp_path: Path, redis: RedisServer) -> Iterator[AppServer]:
    """The app after a run that produces all of these events."""
    settings = {"CLERK_WEBHOOK_SECRET": SECRET, "PROVISIONING_MAX_ATTEMPTS": "1"}
    more = {"REDIS_URL": redis.url, "SWEEP_INTERVAL_SECONDS": "1", "WEB_CONCURRENCY": "2"}
    with run_test_app(tmp_path, DATABASE_URL=url, **settings, **more) as app:
        sign_in(app)
        link(app, url)
        refuse(app)
        administer(app)
        receive_webhooks(app)
        fail(app, url)
        with suspended(redis.process):
            request_as(app, BIA, "/api/auth/me", "GET")
        yield app


def sign_in(app: AppServer) -> None:
    for _ in range(2):
        request_as(app, BIA)
        request_as(app, BIA, "/api/auth/me", "GET")
    cookies = {"__session": DevIdentityProvider(app.instance / "identity").token(BIA)}
    requests.get(f"{app.url}/dashboard?q={BIA.email}", cookies=cookies, timeout=10)


def register(app: AppServer, user: DevUser) -> requests.Response:
    body = {"nome_completo": user.name, "email": user.email}
    return request_as(app, ADMIN, "/api/admin/mentorados", body=body)


def link(app: AppServer, url: str) -> None:
    """Link Eva, claim a profile for Ivo, and sign Lia in with two matching profiles."""
    register(app, EVA)
    request_as(app, EVA)
    request_as(app, DevUser(IVO.clerk_id, IVO.name, IVO.email, email_verified=False))
    register(app, IVO)
    request_as(app, IVO)
    # An old installation may hold two profiles of one address; the app refuses the second.
    with connect_to(url) as connection:
        connection.execute(text(TWINS), {"name": LIA.name, "email": LIA.email})
    request_as(app, LIA)


def refuse(app: AppServer) -> None:
    token = DevIdentityProvider(app.instance / "identity").token(BIA)
    for wrong in (token[:-8], f"{token}x", "guess", BIA.email):
        headers = {"Authorization": f"Bearer {wrong}"}
        requests.get(f"{app.url}/api/auth/me", headers=headers, timeout=10)
    requests.get(f"{app.url}/dashboard", cookies={"__session": f"{token}y"}, timeout=10)


def administer(app: AppServer) -> None:
    for enabled in (False, True):
        request_as(app, ADMIN, "/api/admin/settings/auto-create", "PUT", {"enabled": enabled})
    users = request_as(app, ADMIN, f"/api/admin/users?q={EVA.email}", "GET").json()["items"]
    for action in ("block", "allow", "retry"):
        request_as(
            app, ADMIN, f"/api/admin/users/{users[0]['id']}/{action}", body={"reason": EVA.name}
        )


def receive_webhooks(app: AppServer) -> None:
    message = json.dumps({"type": "user.updated", "data": clerk_user(EVA)})
    for _ in range(2):
        send_webhook(app.url, SECRET, message, "msg_1")
    send_webhook(app.url, "whsec_d3Jvbmc=", message, "msg_2")


def fail(app: AppServer, url: str) -> None:
    with connect_to(url) as connection:
        connection.execute(text(REFUSE_PROFILES))
    request_as(app, DORA)
    assert eventually(lambda: logged_events(app, "provisioning_dead_letter") != [], seconds=30)


def test_log_contains_all_events_and_no_personal_data(
    app_after_events: AppServer, url: str
) -> None:
    log = app_after_events.log.read_text()
    lines = [json.loads(line) for line in log.splitlines() if line[:1] == "{"]

    assert EXPECTED_EVENTS - {line["event"] for line in lines} == set()
    assert [line for line in lines if not {"event", "level", "timestamp"} <= line.keys()] == []
    assert [
        value for user in ALL_USERS for value in personal_data(user) if value in log.lower()
    ] == []
    assert [secret for secret in ("eyJ", SECRET, "Bearer") if secret in log] == []


def personal_data(user: DevUser) -> list[str]:
    """Return the parts of name and address that identify the user."""
    name, address = str(user.name).lower(), str(user.email).lower()
    return [*(part for part in name.split() if len(part) > 4), address, address.split("@")[0]]


def test_request_id_of_the_browser_is_in_answer_log_and_audit_event(
    app: AppServer, url: str
) -> None:
    token = DevIdentityProvider(app.instance / "identity").token(BIA)
    headers = {"Authorization": f"Bearer {token}", "X-Request-ID": REQUEST_ID}

    answer = requests.post(f"{app.url}/api/auth/ensure", headers=headers, timeout=10)

    recorded = text("SELECT request_id FROM audit_events WHERE event = 'mentorado_created'")
    with connect_to(url) as connection:
        ids = [connection.scalar(recorded), answer.headers["X-Request-ID"]]
    [line] = logged_events(app, "mentorado_created")
    assert [*ids, answer.json()["request_id"], line["request_id"]] == [REQUEST_ID] * 4


def test_http_server_logs_json(app: AppServer) -> None:
    requests.post(f"{app.url}/api/auth/ensure", data=b"x", timeout=10, headers={"X-Odd": "1"})
    app.process.terminate()
    app.process.wait(timeout=20)

    lines = app.log.read_text().splitlines()

    assert [line for line in lines if not re.match(r"^(\{.*\}|\s*|  .*)$", line)] == []
