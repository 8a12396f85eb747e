"""Signed in, but the profile cannot be made: one answer for each cause, on every route."""

from datetime import UTC, datetime

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select, text
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from dev.databases import REFUSE_PROFILES
from models import ProvisioningAttempt, User
from tests.support.types import Sign
from tests.support.users import BOB

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
NO_PEOPLE = "CREATE TRIGGER nobody BEFORE INSERT ON users FOR EACH ROW"
CAUSES = pytest.mark.parametrize(
    ("state", "status", "code"),
    [
        ("pending", 503, "provisioning_unavailable"),
        ("dead", 409, "provisioning_needs_attention"),
    ],
)


@pytest.fixture(autouse=True)
def poison(session: Session) -> None:
    """No profile can be written."""
    session.execute(text(REFUSE_PROFILES))
    session.commit()


def remember(session: Session, state: str) -> None:
    session.add(
        ProvisioningAttempt(
            clerk_id=BOB.clerk_id,
            state=state,
            attempts=3,
            next_attempt_at=LONG_AGO,
            error_class="IntegrityError",
            first_failed_at=LONG_AGO,
            last_failed_at=LONG_AGO,
        )
    )
    session.commit()


def code_of(answer: TestResponse) -> object:
    return (answer.json or {}).get("code")


@CAUSES
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/mentorados/me"),
        ("GET", "/api/mentorados/me/overview"),
        ("POST", "/api/auth/ensure"),
    ],
)
def test_program_gets_the_same_code_everywhere(
    client: FlaskClient,
    session: Session,
    sign: Sign,
    method: str,
    path: str,
    state: str,
    status: int,
    code: str,
) -> None:
    remember(session, state)

    answer = client.open(path, method=method, headers=sign(BOB))

    assert (answer.status_code, code_of(answer)) == (status, code)


@CAUSES
def test_person_gets_a_page_with_the_same_status(
    client: FlaskClient, session: Session, sign: Sign, state: str, status: int, code: str
) -> None:
    remember(session, state)

    answer = client.get("/dashboard", headers=sign(BOB))

    assert (answer.status_code, f'data-code="{code}"' in answer.text) == (status, True)


def test_waiting_is_told_how_long(client: FlaskClient, sign: Sign) -> None:
    answer = client.get("/api/mentorados/me", headers=sign(BOB))

    assert answer.json is not None
    assert (answer.headers["Retry-After"], answer.json["retry_after_ms"]) == ("2", 2000)


@CAUSES
def test_own_account_is_shown_with_the_code(
    client: FlaskClient, session: Session, sign: Sign, state: str, status: int, code: str
) -> None:
    session.add(User(clerk_id=BOB.clerk_id, name="Bob Lima"))
    remember(session, state)

    me = client.get("/api/auth/me", headers=sign(BOB)).json

    assert me is not None
    assert (me["status"], me["mentorado"], me["user"]["name"]) == (code, None, "Bob Lima")


def test_person_who_could_not_be_helped_is_known_to_support(
    client: FlaskClient, sign: Sign, session: Session
) -> None:
    client.get("/dashboard", headers=sign(BOB))

    [bob] = session.scalars(select(User))
    assert (bob.clerk_id, bob.email, bob.email_verified) == (BOB.clerk_id, BOB.email, True)


def test_stranger_s_account_is_what_their_token_says(
    client: FlaskClient, sign: Sign, session: Session
) -> None:
    session.execute(text(f"{NO_PEOPLE} EXECUTE FUNCTION poison()"))
    session.commit()

    me = client.get("/api/auth/me", headers=sign(BOB)).json

    assert me is not None
    assert (me["user"]["id"], me["user"]["clerk_id"]) == (None, BOB.clerk_id)


def test_diagnostic_tells_that_it_is_tried_again(client: FlaskClient, sign: Sign) -> None:
    client.get("/dashboard", headers=sign(BOB))

    told = client.get("/api/auth/diagnostic", headers=sign(BOB)).json

    assert told is not None
    assert told["status"] == {
        "linked": False,
        "unlinked_match": False,
        "multiple_matches": False,
        "pending_attempt": True,
    }


def test_diagnostic_promises_no_further_try_once_dead(
    client: FlaskClient, session: Session, sign: Sign
) -> None:
    remember(session, "dead")

    told = client.get("/api/auth/diagnostic", headers=sign(BOB)).json

    assert told is not None
    assert told["status"]["pending_attempt"] is False
    assert told["advice"] == ["Fale com a equipe da mentoria para liberar seu acesso."]


def test_administration_does_not_turn_away_whom_it_could_not_look_up(
    client: FlaskClient, sign: Sign
) -> None:
    answer = client.get("/api/admin/sweeps", headers=sign(BOB))

    assert (answer.status_code, code_of(answer)) == (503, "provisioning_unavailable")


def test_diagnostic_of_the_cured_speaks_of_no_further_try(
    client: FlaskClient, session: Session, sign: Sign
) -> None:
    remember(session, "pending")
    session.execute(text("DROP TRIGGER poison ON mentorados"))
    session.commit()

    told = client.get("/api/auth/diagnostic", headers=sign(BOB)).json

    assert told is not None
    assert told["advice"] == ["Seu perfil está pronto."]


def test_cure_is_felt_at_the_next_request(
    client: FlaskClient, session: Session, sign: Sign
) -> None:
    remember(session, "dead")
    session.execute(text("DROP TRIGGER poison ON mentorados"))
    session.commit()

    assert client.get("/dashboard", headers=sign(BOB)).status_code == 200
