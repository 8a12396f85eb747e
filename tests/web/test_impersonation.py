"""An impersonated session creates nothing, is no visit, and is named in the audit log."""

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from dev.fake_clerk import DevIdentityProvider, DevUser
from models import AuditEvent, Mentorado, MetricaMensal, User
from tests.support.types import Browser
from tests.support.users import ALICE, BOB, NOW

SUPPORT = "user_support"
ACTOR = {"iss": "https://dashboard.clerk.com", "sid": "sess_support", "sub": SUPPORT}
MONTH = "/api/mentorados/me/metricas/2026/2"


def bearer(provider: DevIdentityProvider, user: DevUser, actor: object = ACTOR) -> dict[str, str]:
    claims = {"sub": user.clerk_id, "sid": "sess_1", "email": user.email, "email_verified": True}
    token = provider.sign({**claims, "act": actor}, 60)
    return {"Authorization": f"Bearer {token}"}


def events(session: Session) -> list[AuditEvent]:
    return list(session.scalars(select(AuditEvent).order_by(AuditEvent.id)))


@pytest.mark.parametrize("method", ["get", "post"])
def test_impersonated_session_creates_no_profile(
    client: FlaskClient, provider: DevIdentityProvider, session: Session, method: str
) -> None:
    path = "/api/auth/ensure" if method == "post" else "/api/mentorados/me"

    response = getattr(client, method)(path, headers=bearer(provider, BOB))

    assert (response.status_code, (response.json or {})["code"]) == (403, "mentorado_required")
    assert session.scalar(select(func.count()).select_from(User)) == 0
    assert session.scalar(select(func.count()).select_from(Mentorado)) == 0


def test_stored_user_without_profile_gets_none(
    client: FlaskClient, provider: DevIdentityProvider, session: Session
) -> None:
    session.add(User(clerk_id=BOB.clerk_id))
    session.commit()

    response = client.get("/api/auth/me", headers=bearer(provider, BOB))

    assert (response.status_code, (response.json or {})["status"]) == (200, "mentorado_required")
    assert session.scalar(select(func.count()).select_from(Mentorado)) == 0


@pytest.mark.parametrize("actor", [ACTOR, {}, "user_support", {"sub": 7}, [], True])
def test_impersonated_session_is_no_visit(
    client: FlaskClient,
    provider: DevIdentityProvider,
    session: Session,
    alice: Mentorado,
    actor: object,
) -> None:
    session.execute(update(User).values(last_signed_in=NOW))
    session.commit()

    response = client.get("/api/mentorados/me", headers=bearer(provider, ALICE, actor))

    assert response.status_code == 200
    assert session.scalar(select(User.last_signed_in)) == NOW


def test_null_actor_is_no_impersonation(
    client: FlaskClient, provider: DevIdentityProvider, alice: Mentorado, session: Session
) -> None:
    response = client.put(MONTH, headers=bearer(provider, ALICE, None), json={"leads": 3})

    assert (response.status_code, events(session)) == (200, [])


def test_impersonated_write_names_the_impersonator(
    client: FlaskClient, provider: DevIdentityProvider, session: Session, alice: Mentorado
) -> None:
    response = client.put(MONTH, headers=bearer(provider, ALICE), json={"leads": 3})

    [event] = events(session)
    details = event.details or {}
    assert (response.status_code, session.scalar(select(MetricaMensal.leads))) == (200, 3)
    assert (event.event, event.user_id, event.mentorado_id) == (
        "impersonated_write",
        alice.user_id,
        alice.id,
    )
    assert (details["impersonator"], details["method"]) == (SUPPORT, "PUT")
    assert details["route"].startswith("/api/mentorados/me/metricas/<")


def test_impersonated_read_is_not_recorded(
    client: FlaskClient, provider: DevIdentityProvider, session: Session, alice: Mentorado
) -> None:
    client.get("/api/mentorados/me/overview", headers=bearer(provider, ALICE))

    assert events(session) == []


def test_change_by_an_impersonated_admin_names_the_impersonator(
    client: FlaskClient,
    provider: DevIdentityProvider,
    session: Session,
    alice: Mentorado,
    charlie: DevUser,
) -> None:
    url = f"/api/admin/users/{alice.user_id}/block"

    client.post(url, headers=bearer(provider, charlie), json={"reason": "teste"})

    actors = [(event.event, (event.details or {}).get("impersonator")) for event in events(session)]
    assert actors == [("impersonated_write", SUPPORT), ("admin_action", SUPPORT)]


def test_pages_show_who_has_opened_the_session(
    browser_of: Browser, provider: DevIdentityProvider, alice: Mentorado
) -> None:
    browser = browser_of(ALICE)
    own = browser.get("/dashboard").text
    claims = {"sub": ALICE.clerk_id, "sid": "sess_1", "act": ACTOR}
    browser.set_cookie("__session", provider.sign(claims, 60))

    page = browser.get("/dashboard")
    error = browser.get("/admin")

    assert (page.status_code, SUPPORT in page.text, SUPPORT in own) == (200, True, False)
    assert "Sessão em nome de <strong>Alice Prado</strong>" in page.text
    assert (error.status_code, SUPPORT in error.text) == (403, True)


def test_impersonated_session_of_a_blocked_user_is_denied(
    client: FlaskClient, provider: DevIdentityProvider, session: Session, alice: Mentorado
) -> None:
    session.execute(update(User).values(blocked_at=NOW))
    session.commit()

    response = client.get("/api/mentorados/me", headers=bearer(provider, ALICE))

    assert (response.json or {})["code"] == "user_blocked"


def test_impersonated_session_leaves_nothing_in_the_cache(
    client: FlaskClient, provider: DevIdentityProvider, session: Session, alice: Mentorado
) -> None:
    client.get("/api/mentorados/me", headers=bearer(provider, ALICE))
    session.execute(update(User).values(last_signed_in=NOW))
    session.commit()

    own = {"Authorization": f"Bearer {provider.token(ALICE)}"}
    client.get("/api/mentorados/me", headers=own)

    assert session.scalar(select(User.last_signed_in)) != NOW
