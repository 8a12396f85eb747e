"""Personal data over HTTP: own export, and export and erasure by admins."""

from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from redis import StrictRedis
from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from benchmarks.databases import connect_to
from benchmarks.servers import RedisServer
from dev.fake_clerk import DevUser
from models import AuditEvent, Mentorado, User
from tests.support.apps import create_app_on
from tests.support.types import Browser, Sign
from tests.support.users import ALICE, BOB
from tests.support.whole_database import tables_with
from web.services import EXTENSION

ZELIA = DevUser("user_zelia9zz", "Zelia Quintana", "zelia.quintana@example.com")
VALUES = [str(value) for value in (ZELIA.clerk_id, ZELIA.name, ZELIA.email)]


@pytest.fixture
def zelia(client: FlaskClient, sign: Sign, session: Session) -> int:
    """The id of a user who has signed in."""
    client.get("/api/auth/me", headers=sign(ZELIA))
    return session.scalars(select(User.id).where(User.clerk_id == ZELIA.clerk_id)).one()


def test_own_export_contains_the_own_rows_only(
    client: FlaskClient, sign: Sign, alice: Mentorado, zelia: int
) -> None:
    response = client.get("/api/mentorados/me/export", headers=sign(ZELIA))

    document = response.json or {}
    assert (response.status_code, document["user_id"]) == (200, zelia)
    assert [row["email"] for row in document["tables"]["mentorados"]] == [ZELIA.email]
    assert str(ALICE.email) not in response.text


def test_own_data_is_a_download(browser_of: Browser, zelia: int) -> None:
    response = browser_of(ZELIA).get("/perfil/dados.json")

    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert response.headers["Content-Disposition"] == 'attachment; filename="meus-dados.json"'
    assert response.headers["Cache-Control"] == "no-store"
    assert (response.json or {})["user_id"] == zelia


def test_admin_exports_any_user(client: FlaskClient, admin: dict[str, str], zelia: int) -> None:
    response = client.get(f"/api/admin/users/{zelia}/export", headers=admin)

    assert (response.status_code, (response.json or {})["clerk_id"]) == (200, ZELIA.clerk_id)


@pytest.mark.parametrize("path", ["export", "erase"])
def test_other_users_may_neither_export_nor_erase(
    client: FlaskClient, sign: Sign, zelia: int, path: str
) -> None:
    method = client.get if path == "export" else client.post

    response = method(f"/api/admin/users/{zelia}/{path}", headers=sign(BOB), json={})

    assert response.status_code == 403


def test_dry_run_counts_and_changes_nothing(
    client: FlaskClient, admin: dict[str, str], connection: Connection, zelia: int
) -> None:
    url = f"/api/admin/users/{zelia}/erase"

    response = client.post(url, headers=admin, json={"dry_run": True})

    document = response.json or {}
    assert (document["dry_run"], document["erased"]) == (True, False)
    assert document["counts"] == {"audit_events": 1, "mentorados": 1, "users": 1}
    assert set(tables_with(connection, VALUES)) == set(VALUES)


def test_erased_user_is_gone_and_a_new_person_at_the_next_sign_in(
    client: FlaskClient,
    admin: dict[str, str],
    sign: Sign,
    connection: Connection,
    zelia: int,
) -> None:
    url = f"/api/admin/users/{zelia}/erase"

    response = client.post(url, headers=admin, json={"reason": "pedido da titular"})

    assert (response.status_code, (response.json or {})["erased"]) == (200, True)
    assert tables_with(connection, VALUES) == {}
    ensured = client.post("/api/auth/ensure", headers=sign(ZELIA))
    assert (ensured.status_code, (ensured.json or {})["outcome"]) == (201, "created")


def test_erasure_needs_a_reason(client: FlaskClient, admin: dict[str, str], zelia: int) -> None:
    response = client.post(f"/api/admin/users/{zelia}/erase", headers=admin, json={})

    errors = (response.json or {})["errors"]
    assert (response.status_code, errors[0]["field"]) == (422, "reason")


def test_admin_cannot_erase_themselves(
    client: FlaskClient, admin: dict[str, str], charlie: DevUser, session: Session
) -> None:
    own_id = session.scalars(select(User.id).where(User.clerk_id == charlie.clerk_id)).one()

    response = client.post(f"/api/admin/users/{own_id}/erase", headers=admin, json={"reason": "x"})

    assert (response.status_code, (response.json or {})["code"]) == (409, "conflict")


def test_unknown_user_is_not_found(client: FlaskClient, admin: dict[str, str]) -> None:
    paths = ("/api/admin/users/999999/export", "/admin/pessoas/999999/apagar-dados")

    assert [client.get(path, headers=admin).status_code for path in paths] == [404, 404]


def test_console_shows_counts_and_erases_after_the_typed_word(
    console: FlaskClient, connection: Connection, session: Session, zelia: int
) -> None:
    url = f"/admin/pessoas/{zelia}/apagar-dados"
    origin = {"Origin": "http://localhost"}
    preview = console.get(url)
    untyped = console.post(url, headers=origin, data={"reason": "pedido", "confirmacao": "sim"})
    unreasoned = console.post(url, headers=origin, data={"reason": "", "confirmacao": "apagar"})
    before = tables_with(connection, VALUES)

    erased = console.post(url, headers=origin, data={"reason": "pedido", "confirmacao": "Apagar"})

    assert ("Perfil" in preview.text, "Registros da auditoria" in preview.text) == (True, True)
    assert (untyped.status_code, unreasoned.status_code, erased.status_code) == (422, 422, 303)
    assert (set(before), tables_with(connection, VALUES)) == (set(VALUES), {})
    event = session.scalars(select(AuditEvent).where(AuditEvent.event == "person_erased")).one()
    assert (event.entry, event.actor_id is None) == ("admin", False)


def test_console_offers_export_and_erasure(console: FlaskClient, zelia: int) -> None:
    page = console.get(f"/admin/pessoas/{zelia}").text
    download = console.get(f"/admin/pessoas/{zelia}/dados.json")

    assert (f"/{zelia}/dados.json" in page, f"/{zelia}/apagar-dados" in page) == (True, True)
    assert (download.json or {})["clerk_id"] == ZELIA.clerk_id


def test_nothing_of_an_erased_user_remains_in_redis(
    tmp_path: Path, copy_database: Callable[[str], str], redis: RedisServer
) -> None:
    url = copy_database(f"erase_{tmp_path.name}")
    settings = {"redis_url": redis.url, "admin_emails": frozenset({"charlie@example.com"})}
    with create_app_on(tmp_path, url, **settings) as app:
        provider = app.extensions[EXTENSION].dev_provider
        client = app.test_client(use_cookies=False)
        admin = {"Authorization": f"Bearer {provider.token(CHARLIE)}"}
        own = {"Authorization": f"Bearer {provider.token(ZELIA)}", "X-Request-ID": "req-zelia-1"}
        for path in ("/api/auth/me", "/dashboard", "/api/mentorados/me/overview"):
            client.get(path, headers=own)
        app.extensions[EXTENSION].provisioning.contexts.store_reference("ref-1", ZELIA.clerk_id)
        with connect_to(url) as connection:
            user_id = connection.scalar(select(User.id).where(User.clerk_id == ZELIA.clerk_id))
        before = redis_text(redis)

        client.post(f"/api/admin/users/{user_id}/erase", headers=admin, json={"reason": "pedido"})

    assert all(value in before for value in VALUES)
    after = redis_text(redis)
    assert [value for value in VALUES if value in after] == []


CHARLIE = DevUser("user_charlie", "Charlie Reis", "charlie@example.com")


def redis_text(server: RedisServer) -> str:
    """All keys and values of a Redis as one text."""
    with StrictRedis.from_url(server.url) as store:
        parts = []
        for key in store.scan_iter("*"):
            kind = store.type(key)
            value = store.lrange(key, 0, -1) if kind == b"list" else store.dump(key)
            text = store.get(key) if kind == b"string" else value
            parts.append(f"{key!r} {text!r}")
    return "\n".join(parts).encode().decode("unicode_escape", "replace")
