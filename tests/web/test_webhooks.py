"""What Clerk tells by itself: applied once, in order, and never on a stranger's word."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from svix.webhooks import Webhook
from werkzeug.test import TestResponse

from dev.databases import REFUSE_PROFILES, app_on, connect_to, count
from dev.fake_clerk import DevUser, clerk_user
from tests.support.users import BOB
from web.services import EXTENSION, Services

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
MOMENT = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
NAME = "SELECT count(*) FROM users WHERE name = :name"
PROFILES = "SELECT count(*) FROM mentorados"


@pytest.fixture
def url(copy_database: Callable[[str], str], tmp_path: Path) -> str:
    """A database of the test's own."""
    return copy_database(f"webhooks_{tmp_path.name}")


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    """An app that knows the signing secret."""
    with app_on(tmp_path, url, clerk_webhook_secret=SECRET) as app:
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of that app."""
    return app.test_client()


def told(event: str, person: DevUser = BOB, *, at: datetime = MOMENT, **more: Any) -> str:
    data = {**clerk_user(person), "updated_at": int(at.timestamp() * 1000), **more}
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


def status_of(answer: TestResponse) -> tuple[int, object]:
    document = answer.json or {}
    return answer.status_code, document.get("status")


def sign_in(app: Flask, person: DevUser = BOB) -> TestResponse:
    services: Services = app.extensions[EXTENSION]
    assert services.dev_provider is not None
    headers = {"Authorization": f"Bearer {services.dev_provider.token(person)}"}
    return app.test_client().get("/api/mentorados/me", headers=headers)


def test_created_user_has_a_profile_before_the_first_visit(client: FlaskClient, url: str) -> None:
    answer = post(client, told("user.created"))

    assert status_of(answer) == (200, "applied")
    assert (count(url, PROFILES), count(url, NAME, name=BOB.name)) == (1, 1)


def test_message_told_twice_acts_once(client: FlaskClient, url: str) -> None:
    post(client, told("user.created"))
    with connect_to(url) as other:
        other.exec_driver_sql("UPDATE users SET name = 'Changed'")

    again = post(client, told("user.created"))

    assert (status_of(again), count(url, NAME, name="Changed")) == ((200, "ignored"), 1)


def test_older_news_changes_nothing(client: FlaskClient, url: str) -> None:
    newer = DevUser(BOB.clerk_id, "Newer Name", BOB.email)
    post(client, told("user.updated", newer), "msg_2")

    post(client, told("user.updated", at=MOMENT - timedelta(minutes=1)), "msg_1")

    assert count(url, NAME, name="Newer Name") == 1


def test_new_address_holds_at_the_next_request(app: Flask, client: FlaskClient, url: str) -> None:
    sign_in(app, DevUser(BOB.clerk_id))
    with connect_to(url) as other:
        other.exec_driver_sql(
            "INSERT INTO mentorados (nome_completo, email, turma, meta_leads)"
            " VALUES ('Bob', 'bob@example.com', 'neon', 77)"
        )

    post(client, told("user.updated"))

    answer = sign_in(app, DevUser(BOB.clerk_id)).json
    assert answer is not None
    assert (answer["meta_leads"], count(url, PROFILES)) == (77, 1)


def test_deleted_user_is_refused_at_once(app: Flask, client: FlaskClient, url: str) -> None:
    before = sign_in(app).status_code
    body = json.dumps({"type": "user.deleted", "data": {"id": BOB.clerk_id, "deleted": True}})

    answer = post(client, body)

    assert (before, status_of(answer), sign_in(app).status_code) == (200, (200, "applied"), 401)
    assert count(url, "SELECT count(*) FROM mentorados WHERE user_id IS NULL") == 1


def test_late_word_of_a_deleted_user_brings_nobody_back(
    app: Flask, client: FlaskClient, url: str
) -> None:
    post(client, json.dumps({"type": "user.deleted", "data": {"id": BOB.clerk_id}}), "msg_1")

    post(client, told("user.created"), "msg_2")

    assert (sign_in(app).status_code, count(url, PROFILES)) == (401, 0)


INCOMPLETE = "SELECT count(*) FROM users WHERE identity_completed_at IS NULL"


@pytest.mark.parametrize("is_known", [False, True])
def test_change_that_cannot_be_read_is_asked_for(
    client: FlaskClient, url: str, is_known: bool
) -> None:
    if is_known:
        post(client, told("user.created"), "msg_0")

    answer = post(client, told("user.updated", primary_email_address_id="idn_of_nothing"))

    assert status_of(answer) == (200, "applied")
    assert (count(url, PROFILES), count(url, INCOMPLETE)) == (1, 1)
    assert count(url, NAME, name=BOB.name) == is_known


def test_deletion_counts_whatever_else_the_message_says(
    app: Flask, client: FlaskClient, url: str
) -> None:
    sign_in(app)
    data = {"id": BOB.clerk_id, "deleted": True, "email_addresses": "none"}

    answer = post(client, json.dumps({"type": "user.deleted", "data": data}))

    assert (status_of(answer), sign_in(app).status_code) == ((200, "applied"), 401)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"type": "session.created", "data": {"id": "sess_1"}}),
        json.dumps({"type": "user.created", "data": {}}),
        json.dumps({"type": 7}),
        "[]",
    ],
)
def test_what_does_not_concern_us_is_taken_and_ignored(
    client: FlaskClient, url: str, body: str
) -> None:
    assert status_of(post(client, body)) == (200, "ignored")
    assert count(url, "SELECT count(*) FROM users") == 0


def test_stranger_is_refused(client: FlaskClient, url: str) -> None:
    answer = post(client, told("user.created"), secret="whsec_aGVsbG8gd29ybGQgaGVsbG8=")

    assert (answer.status_code, (answer.json or {})["code"]) == (400, "invalid_signature")
    assert count(url, "SELECT count(*) FROM users") == 0


def test_what_could_not_be_stored_is_sent_again(client: FlaskClient, url: str) -> None:
    with connect_to(url) as other:
        other.exec_driver_sql(REFUSE_PROFILES)
    failed = post(client, told("user.created"))
    with connect_to(url) as other:
        other.exec_driver_sql("DROP TRIGGER poison ON mentorados")

    again = post(client, told("user.created"))

    assert (failed.status_code, failed.headers["Retry-After"]) == (503, "2")
    assert (status_of(again), count(url, PROFILES)) == ((200, "applied"), 1)


def test_dead_letter_does_not_end_the_sender_s_patience(client: FlaskClient, url: str) -> None:
    with connect_to(url) as other:
        other.exec_driver_sql(REFUSE_PROFILES)
    post(client, told("user.created"))
    with connect_to(url) as other:
        other.exec_driver_sql("UPDATE provisioning_attempts SET state = 'dead'")

    assert post(client, told("user.created")).status_code == 503


def test_without_a_secret_nothing_is_believed(tmp_path: Path, url: str) -> None:
    with app_on(tmp_path, url) as app:
        answer = post(app.test_client(), told("user.created"))

    assert (answer.status_code, (answer.json or {})["code"]) == (503, "not_configured")
