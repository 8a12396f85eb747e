"""The request hooks: authentication, access, origin check, request id and header size."""

from collections.abc import Callable
from dataclasses import replace

import jwt
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from dev.fake_clerk import DevIdentityProvider, DevUser
from models import AuditEvent, Mentorado, User
from models.people import Role, SimNao, Turma
from provisioning.rules import Rules
from tests.support.types import Browser, Sign
from tests.support.users import ALICE, BOB, CHARLIE, NOW
from web.services import EXTENSION, Services

PROFILE_ROUTES = [
    "/dashboard",
    "/metricas/2026/1",
    "/perfil",
    "/perfil/meses",
    "/perfil/meses.csv",
    "/api/mentorados/me",
    "/api/mentorados/me/overview",
    "/api/mentorados/me/metricas",
]


def code_of(response: object) -> str:
    return str(response.json["code"])  # type: ignore[attr-defined] # a TestResponse


def row_counts(session: Session) -> tuple[int, ...]:
    tables = (User, Mentorado, AuditEvent)
    return tuple(session.scalars(select(func.count()).select_from(t)).one() for t in tables)


INVALID_TOKENS: dict[str, Callable[[DevIdentityProvider], str]] = {
    "none at all": lambda provider: "",
    "garbage": lambda provider: "abc.def.ghi",
    "expired": lambda provider: provider.token(BOB, lifetime_seconds=-60),
    "blank subject": lambda provider: provider.token(DevUser("")),
    "sentinel subject": lambda provider: provider.token(DevUser("undefined")),
    "subject with NUL": lambda provider: provider.token(DevUser("user_\x00bob")),
    "subject of 10 kB": lambda provider: provider.token(DevUser("u" * 10_000)),
    "unsigned": lambda provider: jwt.encode({"sub": "user_bob"}, "", algorithm="none"),
}


@pytest.mark.parametrize("name", INVALID_TOKENS)
@pytest.mark.parametrize("path", ["/api/auth/me", "/api/mentorados/me"])
def test_invalid_token_is_a_401_and_nothing_is_written(
    client: FlaskClient, session: Session, provider: DevIdentityProvider, name: str, path: str
) -> None:
    token = INVALID_TOKENS[name](provider)

    response = client.get(path, headers={"Authorization": f"Bearer {token}"})

    assert (response.status_code, code_of(response)) == (401, "unauthenticated")
    assert row_counts(session) == (0, 0, 0)


@pytest.mark.parametrize("name", INVALID_TOKENS)
def test_page_with_an_invalid_session_redirects_to_login(
    client: FlaskClient, provider: DevIdentityProvider, name: str
) -> None:
    cookie = f"__session={INVALID_TOKENS[name](provider)}"

    response = client.get("/dashboard?mes=3", headers={"Cookie": cookie})

    assert (response.status_code, response.location) == (302, "/login?next=/dashboard?mes%3D3")


def test_anonymous_page_request_redirects_to_login(client: FlaskClient) -> None:
    response = client.get("/dashboard")

    assert (response.status_code, response.location) == (302, "/login?next=/dashboard")


@pytest.mark.parametrize("path", PROFILE_ROUTES)
def test_profile_exists_before_the_view_runs(
    client: FlaskClient, session: Session, sign: Sign, path: str
) -> None:
    response = client.get(path, headers=sign(BOB))

    assert response.status_code == (404 if path.endswith("/apagar") else 200)  # no such month yet
    assert session.scalars(select(func.count()).select_from(Mentorado)).one() == 1


def test_cookie_with_a_suffix_is_read(
    app: Flask, client: FlaskClient, provider: DevIdentityProvider
) -> None:
    client.set_cookie("__session_1a2B3c4d", provider.token(BOB))

    assert client.get("/dashboard").status_code == 200


def test_too_long_values_are_cut_or_dropped(client: FlaskClient, sign: Sign) -> None:
    photo = "https://x/" * 200
    user = DevUser("user_long", "\x00" + "N" * 2_000, "a" * 400 + "@x.com", image_url=photo)

    response = client.get("/api/mentorados/me", headers=sign(user))

    assert response.json is not None
    assert (response.json["nome_completo"], response.json["email"], response.json["foto_url"]) == (
        "N" * 255,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("path", "columns", "code"),
    [
        *((path, {"blocked_at": NOW}, "user_blocked") for path in PROFILE_ROUTES),
        # The dashboard of an admin without profile redirects to the admin console.
        *((path, {"role": Role.ADMIN}, "mentorado_required") for path in PROFILE_ROUTES[1:]),
    ],
)
def test_each_denial_has_one_code_on_every_profile_route(
    client: FlaskClient,
    session: Session,
    sign: Sign,
    path: str,
    columns: dict[str, object],
    code: str,
) -> None:
    session.add(User(clerk_id=BOB.clerk_id, **columns))
    session.commit()

    response = client.get(path, headers=sign(BOB))

    assert response.status_code == 403
    assert code in (code_of(response) if response.is_json else response.get_data(as_text=True))


def test_inactive_mentorado_gets_its_own_code(
    client: FlaskClient, session: Session, alice: Mentorado, sign: Sign
) -> None:
    alice.ativo = SimNao.NAO
    session.commit()

    response = client.get("/api/mentorados/me", headers=sign(ALICE))

    assert (response.status_code, code_of(response)) == (403, "mentorado_inactive")


def test_block_of_an_uncached_user_is_effective_at_once(
    client: FlaskClient, session: Session, alice: Mentorado, sign: Sign
) -> None:
    session.execute(update(User).values(blocked_at=NOW))
    session.commit()

    me = client.get("/api/auth/me", headers=sign(ALICE)).json

    assert me is not None
    assert (me["status"], me["mentorado"]) == ("user_blocked", None)


def test_session_of_a_deleted_account_is_refused(
    client: FlaskClient, session: Session, sign: Sign, browser_of: Browser
) -> None:
    session.add(User(clerk_id=BOB.clerk_id, deleted_at=NOW))
    session.commit()

    me = client.get("/api/auth/me", headers=sign(BOB))
    page = browser_of(BOB).get("/dashboard")

    assert (me.status_code, code_of(me)) == (401, "unauthenticated")
    assert page.status_code == 401


@pytest.mark.parametrize("user", [ALICE, BOB])
def test_admin_routes_are_forbidden_for_mentees(
    client: FlaskClient, alice: Mentorado, sign: Sign, user: DevUser
) -> None:
    response = client.get("/api/admin/sweeps", headers=sign(user))

    assert (response.status_code, code_of(response)) == (403, "forbidden")


def test_view_without_access_policy_is_forbidden(
    app: Flask, client: FlaskClient, sign: Sign
) -> None:
    rule = app.url_map.iter_rules("pages.home")
    endpoint = next(rule).endpoint
    view, app.view_functions[endpoint] = app.view_functions[endpoint], lambda: "open"

    response = client.get("/", headers=sign(BOB))

    app.view_functions[endpoint] = view
    assert response.status_code == 403


ORIGINS: dict[str, tuple[dict[str, str], int]] = {
    "own origin": ({"Origin": "http://localhost"}, 200),
    "same-origin fetch": ({"Sec-Fetch-Site": "same-origin"}, 200),
    "nothing": ({}, 403),
    "null origin": ({"Origin": "null"}, 403),
    "another site": ({"Origin": "https://evil.example"}, 403),
    "same-site fetch": ({"Sec-Fetch-Site": "same-site"}, 403),
    "foreign origin that claims to be same": (
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
        403,
    ),
}


@pytest.mark.parametrize("name", ORIGINS)
def test_write_with_a_cookie_needs_the_own_origin(
    alice: Mentorado, browser_of: Browser, name: str
) -> None:
    headers, status = ORIGINS[name]

    response = browser_of(ALICE).post("/api/auth/ensure", headers=headers)

    assert response.status_code == status


def test_write_with_a_bearer_token_needs_no_origin(client: FlaskClient, sign: Sign) -> None:
    assert client.post("/api/auth/ensure", headers=sign(BOB)).status_code == 201


def test_well_formed_request_id_is_kept(client: FlaskClient) -> None:
    response = client.get("/healthz", headers={"X-Request-ID": "abc-12345678"})

    assert response.headers["X-Request-ID"] == "abc-12345678"


@pytest.mark.parametrize("request_id", ["", "with space 123", "a" * 129, "x;drop-table", "<b>"])
def test_malformed_request_id_is_replaced(client: FlaskClient, request_id: str) -> None:
    response = client.get("/healthz", headers={"X-Request-ID": request_id})

    assert response.headers["X-Request-ID"] != request_id
    assert len(response.headers["X-Request-ID"]) == 32


def test_new_name_updates_the_user_but_not_the_profile(
    client: FlaskClient, alice: Mentorado, sign: Sign
) -> None:
    renamed = replace(ALICE, name="Alice P. Souza")

    me = client.get("/api/auth/me", headers=sign(renamed)).json

    assert me is not None
    assert (me["user"]["name"], me["mentorado"]["nome_completo"]) == (
        "Alice P. Souza",
        "Alice Prado",
    )


def test_invited_only_refuses_other_users(
    app: Flask,
    client: FlaskClient,
    session: Session,
    services: Services,
    sign: Sign,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    invited_only = replace(services.provisioning, rules=Rules(invited_only=True))
    monkeypatch.setitem(app.extensions, EXTENSION, replace(services, provisioning=invited_only))
    session.add(Mentorado(nome_completo="Bob", email=BOB.email, turma=Turma.NEON))
    session.commit()

    uninvited = client.get("/api/mentorados/me", headers=sign(CHARLIE))
    invited = client.get("/api/mentorados/me", headers=sign(BOB))

    assert (uninvited.status_code, code_of(uninvited)) == (403, "not_invited")
    assert (invited.status_code, (invited.json or {})["nome_completo"]) == (200, "Bob")


@pytest.mark.parametrize("header", ["HTTP_COOKIE", "HTTP_X_ANYTHING"])
@pytest.mark.parametrize("path", ["/dashboard", "/api/auth/me", "/healthz", "/nowhere"])
def test_too_large_headers_are_refused(app: Flask, path: str, header: str) -> None:
    """A server joins up to 100 headers of one name; decoding them took half a second."""
    client = app.test_client(use_cookies=False)

    response = client.get(path, environ_overrides={header: "a=b; " * 20_000})

    assert response.status_code == 413
