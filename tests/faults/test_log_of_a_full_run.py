"""A day in the life of the program, and what its log then says: everything, but of nobody."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from sqlalchemy import text

from dev.clients import ADMIN, request_as
from dev.databases import REFUSE_PROFILES, connect_to
from dev.fake_clerk import DevIdentityProvider, DevUser, clerk_user
from dev.servers import Redis, Served, eventually, frozen, logged, served
from tests.support.clerk_server import send_webhook

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
REQUEST_ID = "browser-4711"

# Names and addresses that nothing else in the log could contain.
BIA = DevUser("user_one", "Bia Quintanilha", "bia.quintanilha@example.com")
EVA = DevUser("user_two", "Eva Zambrano", "eva.zambrano@example.com")
IVO = DevUser("user_three", "Ivo Xavantes", "ivo.xavantes@example.com")
LIA = DevUser("user_four", "Lia Wernecke", "lia.wernecke@example.com")
DORA = DevUser("user_five", "Dora Kubitsch", "dora.kubitsch@example.com")
EVERYBODY = (BIA, EVA, IVO, LIA, DORA)

TWINS = """
INSERT INTO mentorados (nome_completo, email, turma)
SELECT :name, :email, 'neon' FROM generate_series(1, 2)
"""
HAPPENED = {
    *("mentorado_created", "mentorado_linked", "mentorado_claimed", "mentorado_creation_failed"),
    *("mentorado_link_ambiguous", "cache_hit", "cache_miss", "session_invalidated"),
    *("sweep_started", "sweep_finished", "provisioning_dead_letter"),
    *("webhook_applied", "webhook_ignored", "webhook_refused", "auto_create_changed"),
    *("admin_action", "session_refused", "cache_error"),
}


@pytest.fixture
def lived(url: str, tmp_path: Path, redis: Redis) -> Iterator[Served]:
    """The app, after all that."""
    settings = {"CLERK_WEBHOOK_SECRET": SECRET, "PROVISIONING_MAX_ATTEMPTS": "1"}
    more = {"REDIS_URL": redis.url, "SWEEP_INTERVAL_SECONDS": "1", "WEB_CONCURRENCY": "2"}
    with served(tmp_path, DATABASE_URL=url, **settings, **more) as app:
        sign_in(app)
        link(app, url)
        refuse(app)
        administer(app)
        hear(app)
        fail(app, url)
        with frozen(redis.process):
            request_as(app, BIA, "/api/auth/me", "GET")
        yield app


def sign_in(app: Served) -> None:
    for _ in range(2):
        request_as(app, BIA)
        request_as(app, BIA, "/api/auth/me", "GET")
    cookies = {"__session": DevIdentityProvider(app.instance / "identity").token(BIA)}
    requests.get(f"{app.url}/dashboard?q={BIA.email}", cookies=cookies, timeout=10)


def register(app: Served, person: DevUser) -> requests.Response:
    body = {"nome_completo": person.name, "email": person.email}
    return request_as(app, ADMIN, "/api/admin/mentorados", body=body)


def link(app: Served, url: str) -> None:
    """Eva finds the one that waits, Ivo's is claimed afterwards, and of Lia there are two."""
    register(app, EVA)
    request_as(app, EVA)
    request_as(app, DevUser(IVO.clerk_id, IVO.name, IVO.email, email_verified=False))
    register(app, IVO)
    request_as(app, IVO)
    with connect_to(
        url
    ) as connection:  # as an old installation may hold them; ours refuses the second
        connection.execute(text(TWINS), {"name": LIA.name, "email": LIA.email})
    request_as(app, LIA)


def refuse(app: Served) -> None:
    token = DevIdentityProvider(app.instance / "identity").token(BIA)
    for wrong in (token[:-8], f"{token}x", "guess", BIA.email):
        headers = {"Authorization": f"Bearer {wrong}"}
        requests.get(f"{app.url}/api/auth/me", headers=headers, timeout=10)
    requests.get(f"{app.url}/dashboard", cookies={"__session": f"{token}y"}, timeout=10)


def administer(app: Served) -> None:
    for enabled in (False, True):
        request_as(app, ADMIN, "/api/admin/settings/auto-create", "PUT", {"enabled": enabled})
    people = request_as(app, ADMIN, f"/api/admin/users?q={EVA.email}", "GET").json()["items"]
    for deed in ("block", "allow", "retry"):
        request_as(
            app, ADMIN, f"/api/admin/users/{people[0]['id']}/{deed}", body={"reason": EVA.name}
        )


def hear(app: Served) -> None:
    news = json.dumps({"type": "user.updated", "data": clerk_user(EVA)})
    for _ in range(2):
        send_webhook(app.url, SECRET, news, "msg_1")
    send_webhook(app.url, "whsec_d3Jvbmc=", news, "msg_2")


def fail(app: Served, url: str) -> None:
    with connect_to(url) as connection:
        connection.execute(text(REFUSE_PROFILES))
    request_as(app, DORA)
    assert eventually(lambda: logged(app, "provisioning_dead_letter") != [], seconds=30)


def test_log_tells_everything_and_betrays_nobody(lived: Served, url: str) -> None:
    said = lived.log.read_text()
    lines = [json.loads(line) for line in said.splitlines() if line[:1] == "{"]

    assert HAPPENED - {line["event"] for line in lines} == set()
    assert [line for line in lines if not {"event", "level", "timestamp"} <= line.keys()] == []
    assert [word for who in EVERYBODY for word in words(who) if word in said.lower()] == []
    assert [secret for secret in ("eyJ", SECRET, "Bearer") if secret in said] == []


def words(person: DevUser) -> list[str]:
    """What a person could be recognised by, apart from their id."""
    name, address = str(person.name).lower(), str(person.email).lower()
    return [*(part for part in name.split() if len(part) > 4), address, address.split("@")[0]]


def test_one_id_leads_from_the_browser_to_the_record(app: Served, url: str) -> None:
    token = DevIdentityProvider(app.instance / "identity").token(BIA)
    headers = {"Authorization": f"Bearer {token}", "X-Request-ID": REQUEST_ID}

    answer = requests.post(f"{app.url}/api/auth/ensure", headers=headers, timeout=10)

    recorded = text("SELECT request_id FROM audit_events WHERE event = 'mentorado_created'")
    with connect_to(url) as connection:
        ids = [connection.scalar(recorded), answer.headers["X-Request-ID"]]
    [line] = logged(app, "mentorado_created")
    assert [*ids, answer.json()["request_id"], line["request_id"]] == [REQUEST_ID] * 4


def test_server_itself_speaks_json(app: Served) -> None:
    requests.post(f"{app.url}/api/auth/ensure", data=b"x", timeout=10, headers={"X-Odd": "1"})
    app.process.terminate()
    app.process.wait(timeout=20)

    lines = app.log.read_text().splitlines()

    assert [line for line in lines if not re.match(r"^(\{.*\}|\s*|  .*)$", line)] == []
