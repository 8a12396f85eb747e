"""Clerk's webhooks are applied once and in order, and only with a valid signature."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from svix.webhooks import Webhook
from werkzeug.test import TestResponse

from benchmarks.databases import REFUSE_PROFILES, connect_to, count
from dev.fake_clerk import DevUser, clerk_user
from tests.support.apps import create_app_on
from tests.support.users import BOB
from web.services import EXTENSION, Services

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
UPDATED_AT = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
NAME = "SELECT count(*) FROM users WHERE name = :name"
PROFILES = "SELECT count(*) FROM mentorados"


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    """An app with the webhook secret."""
    with create_app_on(tmp_path, url, clerk_webhook_secret=SECRET) as app:
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of that app."""
    return app.test_client()


def message(event: str, user: DevUser = BOB, *, at: datetime = UPDATED_AT, **fields: Any) -> str:
    data = {**clerk_user(user), "updated_at": int(at.timestamp() * 1000), **fields}
    return json.dumps({"type": event, "object": "event", "data": data})


def post(
    client: FlaskClient, body: str, message_id: str = "msg_1", *, secret: str = SECRET
) -> TestResponse:
    now = datetime.now(UTC)
    headers = {
        "svix-id": message_id,
        "svix-timestamp": str(int(now.timestamp())),
        "svix-signature": Webhook(secret).sign(message_id, now, body),
    }
    return client.post(
        "/webhooks/clerk", data=body, headers=headers, content_type="application/json"
    )


def status_of(response: TestResponse) -> tuple[int, object]:
    document = response.json or {}
    return response.status_code, document.get("status")


def sign_in(app: Flask, user: DevUser = BOB) -> TestResponse:
    services: Services = app.extensions[EXTENSION]
    assert services.dev_provider is not None
    headers = {"Authorization": f"Bearer {services.dev_provider.token(user)}"}
    return app.test_client().get("/api/mentorados/me", headers=headers)


def test_created_user_gets_a_profile_before_the_first_request(
    client: FlaskClient, url: str
) -> None:
    response = post(client, message("user.created"))

    assert status_of(response) == (200, "applied")
    assert (count(url, PROFILES), count(url, NAME, name=BOB.name)) == (1, 1)


def test_repeated_message_is_ignored(client: FlaskClient, url: str) -> None:
    post(client, message("user.created"))
    with connect_to(url) as other:
        other.exec_driver_sql("UPDATE users SET name = 'Changed'")

    second = post(client, message("user.created"))

    assert (status_of(second), count(url, NAME, name="Changed")) == ((200, "ignored"), 1)


def test_older_message_changes_nothing(client: FlaskClient, url: str) -> None:
    newer = DevUser(BOB.clerk_id, "Newer Name", BOB.email)
    post(client, message("user.updated", newer), "msg_2")

    post(client, message("user.updated", at=UPDATED_AT - timedelta(minutes=1)), "msg_1")

    assert count(url, NAME, name="Newer Name") == 1


def test_new_address_is_effective_at_the_next_request(
    app: Flask, client: FlaskClient, url: str
) -> None:
    sign_in(app, DevUser(BOB.clerk_id))
    with connect_to(url) as other:
        other.exec_driver_sql(
            "INSERT INTO mentorados (nome_completo, email, turma, meta_leads)"
            " VALUES ('Bob', 'bob@example.com', 'neon', 77)"
        )

    post(client, message("user.updated"))

    response = sign_in(app, DevUser(BOB.clerk_id)).json
    assert response is not None
    assert (response["meta_leads"], count(url, PROFILES)) == (77, 1)


def test_deleted_user_is_refused_at_once(app: Flask, client: FlaskClient, url: str) -> None:
    before = sign_in(app).status_code
    body = json.dumps({"type": "user.deleted", "data": {"id": BOB.clerk_id, "deleted": True}})

    response = post(client, body)

    assert (before, status_of(response), sign_in(app).status_code) == (200, (200, "applied"), 401)
    assert count(url, "SELECT count(*) FROM mentorados WHERE user_id IS NULL") == 1


def test_late_message_does_not_restore_a_deleted_user(
    app: Flask, client: FlaskClient, url: str
) -> None:
    post(client, json.dumps({"type": "user.deleted", "data": {"id": BOB.clerk_id}}), "msg_1")

    post(client, message("user.created"), "msg_2")

    assert (sign_in(app).status_code, count(url, PROFILES)) == (401, 0)


INCOMPLETE = "SELECT count(*) FROM users WHERE identity_completed_at IS NULL"


@pytest.mark.parametrize("is_known", [False, True])
def test_unreadable_change_is_looked_up_later(
    client: FlaskClient, url: str, is_known: bool
) -> None:
    if is_known:
        post(client, message("user.created"), "msg_0")

    response = post(client, message("user.updated", primary_email_address_id="idn_of_nothing"))

    assert status_of(response) == (200, "applied")
    assert (count(url, PROFILES), count(url, INCOMPLETE)) == (1, 1)
    assert count(url, NAME, name=BOB.name) == is_known


def test_deletion_with_malformed_data_is_applied(app: Flask, client: FlaskClient, url: str) -> None:
    sign_in(app)
    data = {"id": BOB.clerk_id, "deleted": True, "email_addresses": "none"}

    response = post(client, json.dumps({"type": "user.deleted", "data": data}))

    assert (status_of(response), sign_in(app).status_code) == ((200, "applied"), 401)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"type": "session.created", "data": {"id": "sess_1"}}),
        json.dumps({"type": "user.created", "data": {}}),
        json.dumps({"type": 7}),
        "[]",
    ],
)
def test_other_messages_are_accepted_and_ignored(client: FlaskClient, url: str, body: str) -> None:
    assert status_of(post(client, body)) == (200, "ignored")
    assert count(url, "SELECT count(*) FROM users") == 0


def test_message_with_another_signature_is_refused(client: FlaskClient, url: str) -> None:
    response = post(client, message("user.created"), secret="whsec_aGVsbG8gd29ybGQgaGVsbG8=")

    assert (response.status_code, (response.json or {})["code"]) == (400, "invalid_signature")
    assert count(url, "SELECT count(*) FROM users") == 0


def test_failed_message_is_a_503_and_applied_when_sent_again(client: FlaskClient, url: str) -> None:
    with connect_to(url) as other:
        other.exec_driver_sql(REFUSE_PROFILES)
    failed = post(client, message("user.created"))
    with connect_to(url) as other:
        other.exec_driver_sql("DROP TRIGGER poison ON mentorados")

    second = post(client, message("user.created"))

    assert (failed.status_code, failed.headers["Retry-After"]) == (503, "2")
    assert (status_of(second), count(url, PROFILES)) == ((200, "applied"), 1)


def test_message_for_a_dead_letter_is_a_503(client: FlaskClient, url: str) -> None:
    with connect_to(url) as other:
        other.exec_driver_sql(REFUSE_PROFILES)
    post(client, message("user.created"))
    with connect_to(url) as other:
        other.exec_driver_sql("UPDATE provisioning_attempts SET state = 'dead'")

    assert post(client, message("user.created")).status_code == 503


def test_message_without_a_configured_secret_is_refused(tmp_path: Path, url: str) -> None:
    with create_app_on(tmp_path, url) as app:
        response = post(app.test_client(), message("user.created"))

    assert (response.status_code, (response.json or {})["code"]) == (503, "not_configured")
