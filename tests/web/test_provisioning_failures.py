"""A signed-in user whose profile cannot be created gets one error for each cause, on all routes."""

from datetime import UTC, datetime

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select, text
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from benchmarks.databases import REFUSE_PROFILES
from models import User
from tests.support.types import Sign
from tests.support.users import BOB, failed_attempt

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
REFUSE_USERS = "CREATE TRIGGER refuse_users BEFORE INSERT ON users FOR EACH ROW"
CAUSES = pytest.mark.parametrize(
    ("state", "status", "code"),
    [
        ("pending", 503, "provisioning_unavailable"),
        ("dead", 409, "provisioning_needs_attention"),
    ],
)


@pytest.fixture(autouse=True)
def refuse_profiles(session: Session) -> None:
    """No profile can be written."""
    session.execute(text(REFUSE_PROFILES))
    session.commit()


def add_attempt(session: Session, state: str) -> None:
    session.add(failed_attempt(BOB.clerk_id, state, LONG_AGO, attempts=3))
    session.commit()


def code_of(response: TestResponse) -> object:
    return (response.json or {}).get("code")


@CAUSES
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/mentorados/me"),
        ("GET", "/api/mentorados/me/overview"),
        ("POST", "/api/auth/ensure"),
    ],
)
def test_each_api_route_returns_the_same_code(
    client: FlaskClient,
    session: Session,
    sign: Sign,
    method: str,
    path: str,
    state: str,
    status: int,
    code: str,
) -> None:
    add_attempt(session, state)

    response = client.open(path, method=method, headers=sign(BOB))

    assert (response.status_code, code_of(response)) == (status, code)


@CAUSES
def test_page_has_the_same_status_and_code(
    client: FlaskClient, session: Session, sign: Sign, state: str, status: int, code: str
) -> None:
    add_attempt(session, state)

    response = client.get("/dashboard", headers=sign(BOB))

    assert (response.status_code, f'data-code="{code}"' in response.text) == (status, True)


def test_response_has_retry_after(client: FlaskClient, sign: Sign) -> None:
    response = client.get("/api/mentorados/me", headers=sign(BOB))

    assert response.json is not None
    assert (response.headers["Retry-After"], response.json["retry_after_ms"]) == ("2", 2000)


@CAUSES
def test_me_contains_the_user_and_the_code(
    client: FlaskClient, session: Session, sign: Sign, state: str, status: int, code: str
) -> None:
    session.add(User(clerk_id=BOB.clerk_id, name="Bob Lima"))
    add_attempt(session, state)

    me = client.get("/api/auth/me", headers=sign(BOB)).json

    assert me is not None
    assert (me["status"], me["mentorado"], me["user"]["name"]) == (code, None, "Bob Lima")


def test_user_is_stored_although_the_profile_failed(
    client: FlaskClient, sign: Sign, session: Session
) -> None:
    client.get("/dashboard", headers=sign(BOB))

    [bob] = session.scalars(select(User))
    assert (bob.clerk_id, bob.email, bob.email_verified) == (BOB.clerk_id, BOB.email, True)


def test_user_who_cannot_be_stored_is_read_from_the_token(
    client: FlaskClient, sign: Sign, session: Session
) -> None:
    session.execute(text(f"{REFUSE_USERS} EXECUTE FUNCTION poison()"))
    session.commit()

    me = client.get("/api/auth/me", headers=sign(BOB)).json

    assert me is not None
    assert (me["user"]["id"], me["user"]["clerk_id"]) == (None, BOB.clerk_id)


def test_diagnostic_reports_a_pending_attempt(client: FlaskClient, sign: Sign) -> None:
    client.get("/dashboard", headers=sign(BOB))

    diagnostic = client.get("/api/auth/diagnostic", headers=sign(BOB)).json

    assert diagnostic is not None
    assert diagnostic["status"] == {
        "linked": False,
        "unlinked_match": False,
        "multiple_matches": False,
        "pending_attempt": True,
    }


def test_diagnostic_of_a_dead_letter_reports_no_pending_attempt(
    client: FlaskClient, session: Session, sign: Sign
) -> None:
    add_attempt(session, "dead")

    diagnostic = client.get("/api/auth/diagnostic", headers=sign(BOB)).json

    assert diagnostic is not None
    assert diagnostic["status"]["pending_attempt"] is False
    assert diagnostic["advice"] == ["Fale com a equipe da mentoria para liberar seu acesso."]


def test_admin_route_returns_503_while_the_role_is_unknown(client: FlaskClient, sign: Sign) -> None:
    response = client.get("/api/admin/sweeps", headers=sign(BOB))

    assert (response.status_code, code_of(response)) == (503, "provisioning_unavailable")


def test_diagnostic_after_recovery_reports_a_ready_profile(
    client: FlaskClient, session: Session, sign: Sign
) -> None:
    add_attempt(session, "pending")
    session.execute(text("DROP TRIGGER poison ON mentorados"))
    session.commit()

    diagnostic = client.get("/api/auth/diagnostic", headers=sign(BOB)).json

    assert diagnostic is not None
    assert diagnostic["advice"] == ["Seu perfil está pronto."]


def test_dead_letter_recovers_at_the_next_request(
    client: FlaskClient, session: Session, sign: Sign
) -> None:
    add_attempt(session, "dead")
    session.execute(text("DROP TRIGGER poison ON mentorados"))
    session.commit()

    assert client.get("/dashboard", headers=sign(BOB)).status_code == 200
