"""The admin API: access, responses, and when changes are effective."""

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session
from structlog.testing import capture_logs
from werkzeug.routing import Rule

from models import AuditEvent, Mentorado, ProvisioningAttempt, User
from tests.support.types import Sign
from tests.support.users import ALICE, BOB, failed_attempt

EVA = {"nome_completo": "Eva Melo", "email": "eva@example.com", "meta_leads": 70}
UNKNOWN_ID = 2_147_483_647
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@pytest.fixture
def dead_letter(session: Session) -> ProvisioningAttempt:
    """A dead letter of Bob."""
    dead_letter = failed_attempt(BOB.clerk_id, error_code="23514")
    session.add(dead_letter)
    session.commit()
    return dead_letter


def admin_routes(app: Flask) -> list[tuple[str, str]]:
    rules: list[Rule] = [
        rule for rule in app.url_map.iter_rules() if rule.rule.startswith("/api/admin")
    ]
    return [
        (method, rule.build(dict.fromkeys(rule.arguments, "1"))[1])  # type: ignore[index]
        for rule in rules
        for method in METHODS
        if method in (rule.methods or ())
    ]


def test_admin_routes_are_forbidden_for_mentees_and_anonymous_requests(
    app: Flask, client: FlaskClient, alice: Mentorado, sign: Sign
) -> None:
    routes = admin_routes(app)

    anonymous = {client.open(path, method=method).status_code for method, path in routes}
    mentee = {
        client.open(path, method=method, headers=sign(ALICE)).status_code for method, path in routes
    }

    assert len(routes) >= 14
    assert (anonymous, mentee) == ({401}, {403})


def test_admin_pre_registers_a_mentee(client: FlaskClient, admin: dict[str, str]) -> None:
    response = client.post("/api/admin/mentorados", headers=admin, json=EVA)

    assert response.json is not None
    assert (response.status_code, response.json["user_id"], response.json["meta_leads"]) == (
        201,
        None,
        70,
    )


def test_second_registration_is_refused_with_the_id_of_the_first(
    client: FlaskClient, admin: dict[str, str]
) -> None:
    first = client.post("/api/admin/mentorados", headers=admin, json=EVA).json or {}

    second = client.post("/api/admin/mentorados", headers=admin, json=EVA).json or {}

    assert (second["status"], second["code"]) == (409, "mentorado_exists")
    assert second["mentorado_id"] == first["id"]


def test_registration_updates_an_untouched_profile_at_the_next_request(
    client: FlaskClient, admin: dict[str, str], sign: Sign
) -> None:
    client.get("/api/mentorados/me", headers=sign(BOB))
    registration = {"nome_completo": "Roberto Lima", "email": BOB.email}

    response = client.post("/api/admin/mentorados", headers=admin, json=registration)

    me = client.get("/api/mentorados/me", headers=sign(BOB)).json or {}
    assert (response.status_code, me["nome_completo"]) == (200, "Roberto Lima")


INVALID_BODIES: dict[str, tuple[dict[str, object], str]] = {
    "no name": ({"email": "eva@example.com"}, "nome_completo"),
    "blank name": ({"nome_completo": "  "}, "nome_completo"),
    "over-long name": ({"nome_completo": "N" * 256}, "nome_completo"),
    "no address": ({**EVA, "email": "eva"}, "email"),
    "photo that is no http url": ({**EVA, "foto_url": "javascript:alert(1)"}, "foto_url"),
    "unknown class": ({**EVA, "turma": "argon"}, "turma"),
    "negative goal": ({**EVA, "meta_posts": -1}, "meta_posts"),
    "goal beyond the column": ({**EVA, "meta_posts": 2_147_483_648}, "meta_posts"),
    "goal as text": ({**EVA, "meta_posts": "12"}, "meta_posts"),
    "unknown field": ({**EVA, "user_id": 1}, "user_id"),
}


@pytest.mark.parametrize("name", INVALID_BODIES)
def test_invalid_registration_is_refused_by_field_and_writes_nothing(
    client: FlaskClient, session: Session, admin: dict[str, str], name: str
) -> None:
    body, field = INVALID_BODIES[name]

    response = client.post("/api/admin/mentorados", headers=admin, json=body)

    errors = (response.json or {}).get("errors", [])
    assert (response.status_code, [error["field"] for error in errors]) == (422, [field])
    assert session.scalars(select(Mentorado.id)).all() == []


def test_block_and_allow_are_effective_at_the_next_request(
    client: FlaskClient, admin: dict[str, str], alice: Mentorado, sign: Sign
) -> None:
    client.get("/dashboard", headers=sign(ALICE))

    client.post(f"/api/admin/users/{alice.user_id}/block", headers=admin)
    blocked = client.get("/api/mentorados/me", headers=sign(ALICE))
    client.post(f"/api/admin/users/{alice.user_id}/allow", headers=admin)
    allowed = client.get("/api/mentorados/me", headers=sign(ALICE))

    assert (blocked.json or {})["code"] == "user_blocked"
    assert allowed.status_code == 200


def test_owner_of_a_deleted_profile_is_blocked_until_allowed(
    client: FlaskClient, admin: dict[str, str], alice: Mentorado, sign: Sign
) -> None:
    client.get("/dashboard", headers=sign(ALICE))
    user_id = alice.user_id

    response = client.delete(f"/api/admin/mentorados/{alice.id}", headers=admin)
    after = client.get("/api/mentorados/me", headers=sign(ALICE)).json or {}
    client.post(f"/api/admin/users/{user_id}/allow", headers=admin)
    after_allow = client.get("/api/auth/me", headers=sign(ALICE)).json or {}

    assert (response.status_code, after["code"]) == (204, "user_blocked")
    assert (after_allow["status"], after_allow["mentorado"]["user_id"]) == ("ready", user_id)


def test_deletion_is_logged_under_its_action_in_the_audit_log(
    client: FlaskClient, session: Session, admin: dict[str, str], alice: Mentorado
) -> None:
    with capture_logs() as logs:
        client.delete(f"/api/admin/mentorados/{alice.id}", headers=admin)

    audited = session.scalars(
        select(AuditEvent.details["action"].astext)
        .where(AuditEvent.event == "admin_action")
        .order_by(AuditEvent.id)
    ).all()
    logged = [line["action"] for line in logs if line["event"] == "admin_action"]
    assert (logged, audited) == (["delete"], ["delete", "block"])


def test_change_by_an_admin_logs_the_end_of_older_contexts_of_its_user(
    client: FlaskClient, admin: dict[str, str], alice: Mentorado
) -> None:
    with capture_logs() as logs:
        client.post(f"/api/admin/users/{alice.user_id}/block", headers=admin)

    invalidated = [line["user_id"] for line in logs if line["event"] == "session_invalidated"]
    assert invalidated == [alice.user_id]


def test_link_and_unlink_are_effective_at_the_next_request(
    client: FlaskClient, session: Session, admin: dict[str, str], sign: Sign
) -> None:
    bob = client.get("/api/auth/me", headers=sign(BOB)).json or {}
    eva = client.post("/api/admin/mentorados", headers=admin, json=EVA).json or {}
    path = f"/api/admin/mentorados/{eva['id']}"

    client.post(f"{path}/link", headers=admin, json={"user_id": bob["user"]["id"]})
    linked = client.get("/api/mentorados/me", headers=sign(BOB)).json or {}
    client.post(f"{path}/unlink", headers=admin)
    unlinked = client.get("/api/mentorados/me", headers=sign(BOB)).json or {}

    assert (linked["id"], unlinked["id"] != eva["id"]) == (eva["id"], True)


def test_link_to_a_user_with_a_used_profile_is_a_conflict(
    client: FlaskClient, admin: dict[str, str], alice: Mentorado
) -> None:
    eva = client.post("/api/admin/mentorados", headers=admin, json=EVA).json or {}

    response = client.post(
        f"/api/admin/mentorados/{eva['id']}/link", headers=admin, json={"user_id": alice.user_id}
    )

    assert (response.status_code, (response.json or {})["code"]) == (409, "conflict")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"/api/admin/users/{UNKNOWN_ID}/block"),
        ("POST", f"/api/admin/users/{UNKNOWN_ID}/retry"),
        ("DELETE", f"/api/admin/mentorados/{UNKNOWN_ID}"),
        ("POST", f"/api/admin/dead-letters/{UNKNOWN_ID}/discard"),
        ("POST", "/api/admin/users/99999999999999999999/block"),
    ],
)
def test_unknown_ids_are_not_found(
    client: FlaskClient, admin: dict[str, str], method: str, path: str
) -> None:
    response = client.open(path, method=method, headers=admin)

    assert (response.status_code, (response.json or {})["code"]) == (404, "not_found")


def test_retry_ensures_the_profile_at_once(
    client: FlaskClient, session: Session, admin: dict[str, str]
) -> None:
    bob = User(clerk_id=BOB.clerk_id)
    session.add(bob)
    session.commit()

    response = client.post(f"/api/admin/users/{bob.id}/retry", headers=admin).json or {}

    assert (response["status"], response["created"], response["mentorado"]["user_id"]) == (
        "ready",
        True,
        bob.id,
    )


def test_dead_letters_are_listed(
    client: FlaskClient, admin: dict[str, str], dead_letter: ProvisioningAttempt
) -> None:
    response = client.get("/api/admin/dead-letters", headers=admin).json or {}

    [item] = response["items"]
    assert (item["id"], item["clerk_id"], item["attempts"], item["error_code"]) == (
        dead_letter.id,
        BOB.clerk_id,
        8,
        "23514",
    )


def test_dead_letters_are_paginated(
    client: FlaskClient, session: Session, admin: dict[str, str], dead_letter: ProvisioningAttempt
) -> None:
    session.add(failed_attempt("another"))
    session.commit()

    first = client.get("/api/admin/dead-letters?limit=1", headers=admin).json or {}
    second_page = f"/api/admin/dead-letters?cursor={first['next_cursor']}"
    second = client.get(second_page, headers=admin).json or {}

    assert first["items"][0]["clerk_id"] == BOB.clerk_id
    assert ([i["clerk_id"] for i in second["items"]], second["next_cursor"]) == (["another"], None)


@pytest.mark.parametrize(
    "query",
    ["limit=x", "limit=0", "cursor=-1", "cursor=9999999999", "limit=1&limit=2"],
)
def test_invalid_pagination_is_refused(
    client: FlaskClient, admin: dict[str, str], query: str
) -> None:
    response = client.get(f"/api/admin/dead-letters?{query}", headers=admin)

    assert (response.status_code, (response.json or {})["code"]) == (422, "invalid_input")


def test_successful_retry_sets_the_dead_letter_to_pending(
    client: FlaskClient, session: Session, admin: dict[str, str], dead_letter: ProvisioningAttempt
) -> None:
    response = (
        client.post(f"/api/admin/dead-letters/{dead_letter.id}/retry", headers=admin).json or {}
    )

    session.refresh(dead_letter)
    assert (response["status"], dead_letter.state) == ("ready", "pending")


def test_discarded_dead_letter_is_deleted_and_audited(
    client: FlaskClient, session: Session, admin: dict[str, str], dead_letter: ProvisioningAttempt
) -> None:
    response = client.post(f"/api/admin/dead-letters/{dead_letter.id}/discard", headers=admin)

    remaining = session.scalars(select(ProvisioningAttempt.id)).all()
    details = session.scalars(select(AuditEvent.details)).one() or {}
    assert (response.status_code, remaining) == (200, [])
    assert (details["action"], details["clerk_id"]) == ("discard", BOB.clerk_id)


def test_auto_create_can_be_turned_off_and_on(
    client: FlaskClient, admin: dict[str, str], sign: Sign
) -> None:
    path = "/api/admin/settings/auto-create"

    off = client.put(path, headers=admin, json={"enabled": False}).json or {}
    denied = client.get("/api/mentorados/me", headers=sign(BOB)).json or {}
    on = client.put(path, headers=admin, json={"enabled": True}).json or {}
    allowed = client.get("/api/mentorados/me", headers=sign(BOB))

    assert (off["enabled"], denied["code"]) == (False, "auto_create_disabled")
    assert (on["enabled"], allowed.status_code) == (True, 200)


def test_auto_create_off_does_not_affect_existing_profiles(
    client: FlaskClient, admin: dict[str, str], alice: Mentorado, sign: Sign
) -> None:
    client.put("/api/admin/settings/auto-create", headers=admin, json={"enabled": False})

    assert client.get("/dashboard", headers=sign(ALICE)).status_code == 200
