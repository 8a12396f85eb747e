"""The JSON API of the own account: `me`, `ensure` and `diagnostic`."""

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from dev.fake_clerk import DevUser
from models import AuditEvent, Mentorado, User
from models.people import Role, Turma
from tests.support.types import Sign
from tests.support.users import ALICE, BOB

MENTORADO_KEYS = [
    "id",
    "user_id",
    "nome_completo",
    "email",
    "foto_url",
    "turma",
    "ativo",
    "onboarding_completed",
    "meta_faturamento",
    "meta_leads",
    "meta_procedimentos",
    "meta_posts",
    "meta_stories",
    "created_at",
]


def add_admin(session: Session) -> None:
    session.add(User(clerk_id=ALICE.clerk_id, role=Role.ADMIN))
    session.commit()


def test_me_contains_user_mentorado_and_status(client: FlaskClient, sign: Sign) -> None:
    me = client.get("/api/auth/me", headers=sign(BOB)).json

    assert me is not None
    assert (list(me), me["status"]) == (["user", "mentorado", "status"], "ready")
    assert list(me["user"]) == ["id", "clerk_id", "name", "email", "role"]


def test_mentorado_has_the_keys_of_the_contract(client: FlaskClient, sign: Sign) -> None:
    mentorado = client.get("/api/mentorados/me", headers=sign(BOB)).json

    assert mentorado is not None
    assert list(mentorado) == MENTORADO_KEYS


def test_first_ensure_returns_201_and_created(client: FlaskClient, sign: Sign) -> None:
    response = client.post("/api/auth/ensure", headers=sign(BOB))

    assert response.json is not None
    values = [response.json[key] for key in ("status", "outcome", "created", "linked")]
    assert (response.status_code, values) == (201, ["ready", "created", True, False])


def test_second_ensure_returns_200_and_existing(client: FlaskClient, sign: Sign) -> None:
    client.post("/api/auth/ensure", headers=sign(BOB))

    response = client.post("/api/auth/ensure", headers=sign(BOB))

    assert response.json is not None
    assert (response.status_code, response.json["outcome"], response.json["created"]) == (
        200,
        "existing",
        False,
    )


def test_ensure_after_a_first_page_returns_200(client: FlaskClient, sign: Sign) -> None:
    client.get("/dashboard", headers=sign(BOB))

    response = client.post("/api/auth/ensure", headers=sign(BOB))

    assert response.status_code == 200


def test_ensure_that_links_returns_linked(
    client: FlaskClient, session: Session, sign: Sign
) -> None:
    session.add(Mentorado(nome_completo="Bob", email=BOB.email, turma=Turma.NEON))
    session.commit()

    response = client.post("/api/auth/ensure", headers=sign(BOB))

    assert response.json is not None
    assert (response.status_code, response.json["outcome"], response.json["linked"]) == (
        200,
        "linked",
        True,
    )


def test_replacing_an_untouched_profile_returns_linked(
    client: FlaskClient, session: Session, sign: Sign
) -> None:
    client.post("/api/auth/ensure", headers=sign(BOB))
    session.add(Mentorado(nome_completo="Bob", email=BOB.email, turma=Turma.NEON))
    session.commit()

    response = client.post("/api/auth/ensure", headers=sign(BOB))

    assert response.json is not None
    assert (response.json["outcome"], response.json["linked"]) == ("linked", True)


def test_ensure_of_an_admin_returns_not_required(
    client: FlaskClient, session: Session, sign: Sign
) -> None:
    add_admin(session)

    response = client.post("/api/auth/ensure", headers=sign(ALICE))

    assert response.json is not None
    assert {k: v for k, v in response.json.items() if k != "request_id"} == {
        "status": "not_required",
        "outcome": "admin",
        "created": False,
        "linked": False,
        "mentorado": None,
    }


def test_status_of_an_admin_is_not_required(
    client: FlaskClient, session: Session, sign: Sign
) -> None:
    add_admin(session)

    me = client.get("/api/auth/me", headers=sign(ALICE)).json

    assert me is not None
    assert (me["status"], me["mentorado"], me["user"]["role"]) == ("not_required", None, "admin")


def test_audit_event_and_response_have_the_same_request_id(
    client: FlaskClient, session: Session, sign: Sign
) -> None:
    response = client.post("/api/auth/ensure", headers=sign(BOB))

    assert response.json is not None
    assert response.json["request_id"] == response.headers["X-Request-ID"]
    assert session.scalars(select(AuditEvent.request_id)).all() == [response.json["request_id"]]


def test_diagnostic_of_a_ready_user_reports_no_problem(
    client: FlaskClient, alice: Mentorado, sign: Sign
) -> None:
    diagnostic = client.get("/api/auth/diagnostic", headers=sign(ALICE)).json

    assert diagnostic is not None
    assert diagnostic["status"] == {
        "linked": True,
        "unlinked_match": False,
        "multiple_matches": False,
        "pending_attempt": False,
    }
    assert diagnostic["advice"] == ["Seu perfil está pronto."]


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        (DevUser("user_without_claims", "X", None), "não informa um e-mail"),
        (
            DevUser("user_without_claims", "X", "x@example.com", email_verified=False),
            "Confirme seu e-mail",
        ),
    ],
)
def test_diagnostic_advises_on_the_address(
    client: FlaskClient, sign: Sign, user: DevUser, expected: str
) -> None:
    diagnostic = client.get("/api/auth/diagnostic", headers=sign(user)).json

    assert diagnostic is not None
    assert any(expected in sentence for sentence in diagnostic["advice"])


def test_diagnostic_names_an_ambiguous_address(
    client: FlaskClient, session: Session, sign: Sign
) -> None:
    for _ in range(2):
        session.add(Mentorado(nome_completo="Bob", email=BOB.email, turma=Turma.NEON))
    session.commit()

    diagnostic = client.get("/api/auth/diagnostic", headers=sign(BOB)).json

    assert diagnostic is not None
    assert (diagnostic["status"]["multiple_matches"], len(diagnostic["advice"])) == (True, 2)
