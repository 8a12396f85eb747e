"""Admins correct profiles: what is written, what is refused, and when the mentee sees it."""

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import AuditEvent, Mentorado
from models.mentorado import Turma
from tests.support.types import Sign
from tests.support.users import ALICE, BOB

NOBODY = 2_147_483_647


@pytest.fixture
def waiting(session: Session) -> Mentorado:
    """A pre-registered profile, with a slip of the pen in its address."""
    profile = Mentorado(nome_completo="Bob Lima", email="bobb@example.com", turma=Turma.NEON)
    session.add(profile)
    session.commit()
    return profile


def path_of(profile: Mentorado) -> str:
    return f"/api/admin/mentorados/{profile.id}"


def test_profile_is_corrected_and_its_mentee_sees_it_at_once(
    client: FlaskClient, admin: dict[str, str], alice: Mentorado, sign: Sign
) -> None:
    client.get("/api/auth/me", headers=sign(ALICE))

    answer = client.patch(
        path_of(alice), headers=admin, json={"nome_completo": "Alice P.", "meta_leads": 9}
    )

    own = client.get("/api/mentorados/me", headers=sign(ALICE)).json or {}
    assert (answer.status_code, own) == (200, answer.json)
    assert (own["nome_completo"], own["meta_leads"], own["meta_posts"]) == ("Alice P.", 9, 12)


def test_correction_is_on_record_with_before_after_and_why(
    client: FlaskClient, admin: dict[str, str], alice: Mentorado, session: Session
) -> None:
    correction = {"meta_leads": 9, "meta_posts": 12, "reason": "Pedido dela"}
    client.patch(path_of(alice), headers=admin, json=correction)

    [event] = session.scalars(select(AuditEvent).where(AuditEvent.event == "admin_action"))
    assert event.details == {
        "action": "edit",
        "before": {"meta_leads": 50},
        "after": {"meta_leads": 9},
        "reason": "Pedido dela",
    }


def test_correction_that_changes_nothing_leaves_no_trace(
    client: FlaskClient, admin: dict[str, str], alice: Mentorado, session: Session
) -> None:
    for _ in range(2):
        client.patch(path_of(alice), headers=admin, json={"meta_leads": 9})

    events = session.scalars(select(AuditEvent).where(AuditEvent.event == "admin_action"))
    assert len(events.all()) == 1


def test_mentee_is_out_while_inactive_and_in_again_after(
    client: FlaskClient, admin: dict[str, str], alice: Mentorado, sign: Sign
) -> None:
    statuses = []
    for ativo in ("nao", "sim"):
        client.patch(path_of(alice), headers=admin, json={"ativo": ativo})
        me = client.get("/api/auth/me", headers=sign(ALICE)).json or {}
        statuses.append(me["status"])

    assert statuses == ["mentorado_inactive", "ready"]


def test_address_that_is_mended_finds_its_person_at_their_next_request(
    client: FlaskClient, admin: dict[str, str], waiting: Mentorado, sign: Sign
) -> None:
    own = (client.get("/api/mentorados/me", headers=sign(BOB)).json or {})["id"]

    client.patch(path_of(waiting), headers=admin, json={"email": "BOB@example.com "})

    now = (client.get("/api/mentorados/me", headers=sign(BOB)).json or {})["id"]
    assert own != waiting.id
    assert now == waiting.id


def test_address_of_a_profile_in_use_is_refused_with_its_number(
    client: FlaskClient, admin: dict[str, str], waiting: Mentorado, alice: Mentorado
) -> None:
    answer = client.patch(path_of(waiting), headers=admin, json={"email": ALICE.email})

    told = answer.json or {}
    assert (answer.status_code, told["code"], told["mentorado_id"]) == (
        *(409, "mentorado_exists", alice.id),
    )


def test_address_of_a_waiting_profile_is_refused_to_another_one(
    client: FlaskClient, admin: dict[str, str], waiting: Mentorado, alice: Mentorado
) -> None:
    answer = client.patch(path_of(alice), headers=admin, json={"email": waiting.email})

    assert (answer.json or {})["mentorado_id"] == waiting.id


def test_own_address_written_otherwise_is_no_conflict(
    client: FlaskClient, admin: dict[str, str], waiting: Mentorado, alice: Mentorado
) -> None:
    answers = [
        client.patch(path_of(profile), headers=admin, json={"email": email})
        for profile, email in ((waiting, "Bobb@Example.com"), (alice, "ALICE@example.com"))
    ]

    assert [answer.status_code for answer in answers] == [200, 200]


def test_person_with_an_untouched_profile_keeps_their_address_to_themselves(
    client: FlaskClient, admin: dict[str, str], alice: Mentorado, sign: Sign
) -> None:
    bobs = (client.get("/api/mentorados/me", headers=sign(BOB)).json or {})["id"]

    answer = client.patch(path_of(alice), headers=admin, json={"email": BOB.email})

    assert (answer.json or {})["mentorado_id"] == bobs


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, ""),
        ({"reason": "só isso"}, ""),
        ({"ativo": True}, "ativo"),
        ({"ativo": "talvez"}, "ativo"),
        ({"nome_completo": None}, "nome_completo"),
        ({"nome_completo": " "}, "nome_completo"),
        ({"email": "sem arroba"}, "email"),
        ({"foto_url": "javascript:x"}, "foto_url"),
        ({"turma": "outra"}, "turma"),
        ({"meta_leads": -1}, "meta_leads"),
        ({"meta_leads": None}, "meta_leads"),
        ({"user_id": 1}, "user_id"),
        ({"reason": "x" * 5_001, "ativo": "sim"}, "reason"),
    ],
)
def test_what_does_not_fit_is_named(
    client: FlaskClient, admin: dict[str, str], alice: Mentorado, body: object, field: str
) -> None:
    answer = client.patch(path_of(alice), headers=admin, json=body)

    assert answer.status_code == 422
    assert [error["field"] for error in (answer.json or {})["errors"]] == [field]


def test_address_and_photo_can_be_taken_away(
    client: FlaskClient, admin: dict[str, str], alice: Mentorado
) -> None:
    answer = client.patch(path_of(alice), headers=admin, json={"email": None, "foto_url": None})

    told = answer.json or {}
    assert (told["email"], told["foto_url"]) == (None, None)


def test_profile_of_nobody_is_not_found(client: FlaskClient, admin: dict[str, str]) -> None:
    answer = client.patch(f"/api/admin/mentorados/{NOBODY}", headers=admin, json={"meta_leads": 1})

    assert answer.status_code == 404
