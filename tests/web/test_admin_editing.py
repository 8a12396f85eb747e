"""Editing of profiles by admins: what is written, what is refused, when the mentee sees it."""

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import AuditEvent, Mentorado
from models.people import Turma
from tests.support.types import Sign
from tests.support.users import ALICE, BOB

UNKNOWN_ID = 2_147_483_647


@pytest.fixture
def unlinked(session: Session) -> Mentorado:
    """A pre-registered profile with a typing error in its address."""
    profile = Mentorado(nome_completo="Bob Lima", email="bobb@example.com", turma=Turma.NEON)
    session.add(profile)
    session.commit()
    return profile


def path_of(profile: Mentorado) -> str:
    return f"/api/admin/mentorados/{profile.id}"


def test_edit_is_visible_to_the_mentee_at_once(
    client: FlaskClient, admin: dict[str, str], alice: Mentorado, sign: Sign
) -> None:
    client.get("/api/auth/me", headers=sign(ALICE))

    response = client.patch(
        path_of(alice), headers=admin, json={"nome_completo": "Alice P.", "meta_leads": 9}
    )

    own = client.get("/api/mentorados/me", headers=sign(ALICE)).json or {}
    assert (response.status_code, own) == (200, response.json)
    assert (own["nome_completo"], own["meta_leads"], own["meta_posts"]) == (
        "Alice P.",
        9,
        12,
    )


def test_edit_is_audited_with_before_after_and_reason(
    client: FlaskClient, admin: dict[str, str], alice: Mentorado, session: Session
) -> None:
    edit = {"meta_leads": 9, "meta_posts": 12, "reason": "Pedido dela"}
    client.patch(path_of(alice), headers=admin, json=edit)

    [event] = session.scalars(select(AuditEvent).where(AuditEvent.event == "admin_action"))
    assert event.details == {
        "action": "edit",
        "before": {"meta_leads": 50},
        "after": {"meta_leads": 9},
        "reason": "Pedido dela",
    }


def test_edit_without_a_difference_is_not_audited(
    client: FlaskClient, admin: dict[str, str], alice: Mentorado, session: Session
) -> None:
    for _ in range(2):
        client.patch(path_of(alice), headers=admin, json={"meta_leads": 9})

    events = session.scalars(select(AuditEvent).where(AuditEvent.event == "admin_action"))
    assert len(events.all()) == 1


def test_inactive_mentee_has_no_access_until_reactivated(
    client: FlaskClient, admin: dict[str, str], alice: Mentorado, sign: Sign
) -> None:
    statuses = []
    for ativo in ("nao", "sim"):
        client.patch(path_of(alice), headers=admin, json={"ativo": ativo})
        me = client.get("/api/auth/me", headers=sign(ALICE)).json or {}
        statuses.append(me["status"])

    assert statuses == ["mentorado_inactive", "ready"]


def test_corrected_address_links_the_user_at_the_next_request(
    client: FlaskClient, admin: dict[str, str], unlinked: Mentorado, sign: Sign
) -> None:
    before = (client.get("/api/mentorados/me", headers=sign(BOB)).json or {})["id"]

    client.patch(path_of(unlinked), headers=admin, json={"email": "BOB@example.com "})

    after = (client.get("/api/mentorados/me", headers=sign(BOB)).json or {})["id"]
    assert before != unlinked.id
    assert after == unlinked.id


def test_address_of_an_owned_profile_is_refused_with_its_id(
    client: FlaskClient, admin: dict[str, str], unlinked: Mentorado, alice: Mentorado
) -> None:
    response = client.patch(path_of(unlinked), headers=admin, json={"email": ALICE.email})

    document = response.json or {}
    assert (response.status_code, document["code"], document["mentorado_id"]) == (
        409,
        "mentorado_exists",
        alice.id,
    )


def test_address_of_an_unlinked_profile_is_refused_for_another_one(
    client: FlaskClient, admin: dict[str, str], unlinked: Mentorado, alice: Mentorado
) -> None:
    response = client.patch(path_of(alice), headers=admin, json={"email": unlinked.email})

    assert (response.json or {})["mentorado_id"] == unlinked.id


def test_other_spelling_of_the_own_address_is_no_conflict(
    client: FlaskClient, admin: dict[str, str], unlinked: Mentorado, alice: Mentorado
) -> None:
    responses = [
        client.patch(path_of(profile), headers=admin, json={"email": email})
        for profile, email in ((unlinked, "Bobb@Example.com"), (alice, "ALICE@example.com"))
    ]

    assert [response.status_code for response in responses] == [200, 200]


def test_address_of_a_user_with_an_untouched_profile_is_refused(
    client: FlaskClient, admin: dict[str, str], alice: Mentorado, sign: Sign
) -> None:
    bobs_id = (client.get("/api/mentorados/me", headers=sign(BOB)).json or {})["id"]

    response = client.patch(path_of(alice), headers=admin, json={"email": BOB.email})

    assert (response.json or {})["mentorado_id"] == bobs_id


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
def test_invalid_field_is_named(
    client: FlaskClient, admin: dict[str, str], alice: Mentorado, body: object, field: str
) -> None:
    response = client.patch(path_of(alice), headers=admin, json=body)

    assert response.status_code == 422
    assert [error["field"] for error in (response.json or {})["errors"]] == [field]


def test_address_and_photo_can_be_removed(
    client: FlaskClient, admin: dict[str, str], alice: Mentorado
) -> None:
    response = client.patch(path_of(alice), headers=admin, json={"email": None, "foto_url": None})

    document = response.json or {}
    assert (document["email"], document["foto_url"]) == (None, None)


def test_unknown_profile_is_not_found(client: FlaskClient, admin: dict[str, str]) -> None:
    response = client.patch(
        f"/api/admin/mentorados/{UNKNOWN_ID}", headers=admin, json={"meta_leads": 1}
    )

    assert response.status_code == 404
