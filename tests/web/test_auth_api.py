"""Who am I, make sure of me, what is wrong with me: the JSON side of signing in."""

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from dev.fake_clerk import DevUser
from models import AuditEvent, Mentorado, User
from models.mentorado import Turma
from models.user import Role
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


def test_me_shows_user_mentorado_and_status(client: FlaskClient, sign: Sign) -> None:
    me = client.get("/api/auth/me", headers=sign(BOB)).json

    assert me is not None
    assert (list(me), me["status"]) == (["user", "mentorado", "status"], "ready")
    assert list(me["user"]) == ["id", "clerk_id", "name", "email", "role"]


def test_mentorado_has_the_keys_of_the_contract_and_no_other(
    client: FlaskClient, sign: Sign
) -> None:
    mentorado = client.get("/api/mentorados/me", headers=sign(BOB)).json

    assert mentorado is not None
    assert list(mentorado) == MENTORADO_KEYS


def test_first_ensure_answers_201_and_created(client: FlaskClient, sign: Sign) -> None:
    answer = client.post("/api/auth/ensure", headers=sign(BOB))

    assert answer.json is not None
    facts = [answer.json[key] for key in ("status", "outcome", "created", "linked")]
    assert (answer.status_code, facts) == (201, ["ready", "created", True, False])


def test_ensure_again_answers_200_and_existing(client: FlaskClient, sign: Sign) -> None:
    client.post("/api/auth/ensure", headers=sign(BOB))

    answer = client.post("/api/auth/ensure", headers=sign(BOB))

    assert answer.json is not None
    assert (answer.status_code, answer.json["outcome"], answer.json["created"]) == (
        200,
        "existing",
        False,
    )


def test_ensure_after_a_first_page_is_not_created_again(client: FlaskClient, sign: Sign) -> None:
    client.get("/dashboard", headers=sign(BOB))

    answer = client.post("/api/auth/ensure", headers=sign(BOB))

    assert answer.status_code == 200


def test_ensure_that_links_says_linked(client: FlaskClient, session: Session, sign: Sign) -> None:
    session.add(Mentorado(nome_completo="Bob", email=BOB.email, turma=Turma.NEON))
    session.commit()

    answer = client.post("/api/auth/ensure", headers=sign(BOB))

    assert answer.json is not None
    assert (answer.status_code, answer.json["outcome"], answer.json["linked"]) == (
        200,
        "linked",
        True,
    )


def test_folding_an_untouched_profile_is_answered_as_linked(
    client: FlaskClient, session: Session, sign: Sign
) -> None:
    client.post("/api/auth/ensure", headers=sign(BOB))
    session.add(Mentorado(nome_completo="Bob", email=BOB.email, turma=Turma.NEON))
    session.commit()

    answer = client.post("/api/auth/ensure", headers=sign(BOB))

    assert answer.json is not None
    assert (answer.json["outcome"], answer.json["linked"]) == ("linked", True)


def test_admin_is_answered_not_required(client: FlaskClient, session: Session, sign: Sign) -> None:
    add_admin(session)

    answer = client.post("/api/auth/ensure", headers=sign(ALICE))

    assert answer.json is not None
    assert {k: v for k, v in answer.json.items() if k != "request_id"} == {
        "status": "not_required",
        "outcome": "admin",
        "created": False,
        "linked": False,
        "mentorado": None,
    }


def test_admin_s_own_state_is_not_required(
    client: FlaskClient, session: Session, sign: Sign
) -> None:
    add_admin(session)

    me = client.get("/api/auth/me", headers=sign(ALICE)).json

    assert me is not None
    assert (me["status"], me["mentorado"], me["user"]["role"]) == ("not_required", None, "admin")


def test_audit_and_answer_carry_the_same_request_id(
    client: FlaskClient, session: Session, sign: Sign
) -> None:
    answer = client.post("/api/auth/ensure", headers=sign(BOB))

    assert answer.json is not None
    assert answer.json["request_id"] == answer.headers["X-Request-ID"]
    assert session.scalars(select(AuditEvent.request_id)).all() == [answer.json["request_id"]]


def test_diagnostic_of_a_ready_person_says_so(
    client: FlaskClient, alice: Mentorado, sign: Sign
) -> None:
    found = client.get("/api/auth/diagnostic", headers=sign(ALICE)).json

    assert found is not None
    assert found["status"] == {
        "linked": True,
        "unlinked_match": False,
        "multiple_matches": False,
        "pending_attempt": False,
    }
    assert found["advice"] == ["Seu perfil está pronto."]


@pytest.mark.parametrize(
    ("person", "word"),
    [
        (DevUser("user_of_few_words", "X", None), "não informa um e-mail"),
        (
            DevUser("user_of_few_words", "X", "x@example.com", email_verified=False),
            "Confirme seu e-mail",
        ),
    ],
)
def test_diagnostic_advises_on_the_address(
    client: FlaskClient, sign: Sign, person: DevUser, word: str
) -> None:
    found = client.get("/api/auth/diagnostic", headers=sign(person)).json

    assert found is not None
    assert any(word in sentence for sentence in found["advice"])


def test_diagnostic_names_an_ambiguous_address(
    client: FlaskClient, session: Session, sign: Sign
) -> None:
    for _ in range(2):
        session.add(Mentorado(nome_completo="Bob", email=BOB.email, turma=Turma.NEON))
    session.commit()

    found = client.get("/api/auth/diagnostic", headers=sign(BOB)).json

    assert found is not None
    assert (found["status"]["multiple_matches"], len(found["advice"])) == (True, 2)
