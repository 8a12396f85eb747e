"""Every route of the URL map, by its access policy, called by every kind of user.

Access is decided in one order: a deleted account (401), a blocked user (`user_blocked`), then the
status of the profile, then the policy. Where the ensure call fails, which takes ten statements
more, one route of each area and policy is requested.
"""

import re
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text, update
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from core.database import rolled_back
from dev.fake_clerk import DevIdentityProvider
from models import Mentorado, User
from models.people import Role
from provisioning.audit import Source
from provisioning.clerk_messages import handle_account_deletion
from tests.support.users import ALICE, BOB, NOW
from web.access_policy import POLICIES, Access

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}
# A permanent error: no row of `users` can be updated.
REFUSE_USERS = """
CREATE FUNCTION refuse_users() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '23514'; END $$;
CREATE TRIGGER refuse_users BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION refuse_users();
"""
Route = tuple[str, str, Access]


def routes(app: Flask) -> Iterator[Route]:
    """Each method and path of the app, with numbers and names filled in, and its policy."""
    for rule in app.url_map.iter_rules():
        policy = POLICIES.get(app.view_functions[rule.endpoint])
        if policy is None or policy.access is Access.PUBLIC:
            continue
        path = re.sub(r"<any\(([^,)]*)[^>]*>", r"\1", rule.rule)
        path = re.sub(r"<int[^>]*:ano>", "2026", re.sub(r"<int[^>]*>", "1", path))
        path = re.sub(r"<uuid:[^>]*>", str(UUID(int=1)), path)
        path = re.sub(r"<[^>]*>", "x", path)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield method, path, policy.access


def one_of_each_kind(every: Iterator[Route]) -> Iterator[Route]:
    """One route for each policy, of the pages, the API and the console, that reads and writes."""
    chosen: dict[object, Route] = {}
    for method, path, access in every:
        area = "/".join(path.split("/")[1:3] if path.startswith("/api/") else path.split("/")[1:2])
        chosen.setdefault((area, access, method == "GET"), (method, path, access))
    yield from chosen.values()


def become_admin(session: Session) -> None:
    session.execute(update(User).values(role=Role.ADMIN, admin_by_address=False))


def block(session: Session) -> None:
    become_admin(session)
    session.execute(update(User).values(blocked_at=NOW))


def delete(session: Session) -> None:
    become_admin(session)
    session.execute(update(User).values(deleted_at=NOW))


def revoke(session: Session) -> None:
    become_admin(session)
    session.execute(update(User).values(role=Role.USER))


def deactivate(session: Session) -> None:
    session.execute(update(Mentorado).values(ativo="nao"))


KINDS: dict[str, Callable[[Session], None]] = {
    "mentee": lambda _: None,
    "admin": become_admin,
    "blocked admin": block,
    "deleted admin": delete,
    "revoked admin": revoke,
    "inactive mentee": deactivate,
}
EXPECTED_ERRORS: dict[tuple[str, Access], tuple[int, str]] = {
    ("mentee", Access.ADMIN): (403, "forbidden"),
    ("revoked admin", Access.ADMIN): (403, "forbidden"),
    ("inactive mentee", Access.ADMIN): (403, "forbidden"),
    ("inactive mentee", Access.MENTORADO): (403, "mentorado_inactive"),
    ("blocked admin", Access.ADMIN): (403, "user_blocked"),
    ("blocked admin", Access.MENTORADO): (403, "user_blocked"),
    **{("deleted admin", access): (401, "unauthenticated") for access in Access},
}


@pytest.fixture(params=["", REFUSE_USERS], ids=["ensure works", "ensure fails permanently"])
def failing_ensure(request: pytest.FixtureRequest) -> str:
    """The statement that makes ensure calls fail, or an empty text."""
    statement: str = request.param
    return statement


@pytest.fixture
def call(
    app: Flask, session: Session, provider: DevIdentityProvider, alice: Mentorado
) -> Callable[[str, str], TestResponse]:
    """Return a function that requests a route with Alice's session cookie."""
    client = app.test_client()
    client.set_cookie("__session", provider.token(ALICE))

    def send(method: str, path: str) -> TestResponse:
        is_api = path.startswith("/api/")
        body: object = {} if is_api and method != "GET" else None
        return client.open(path, method=method, headers=SAME_ORIGIN, json=body)

    return send


def code_of(response: TestResponse) -> object:
    return (response.get_json(silent=True) or {}).get("code")


@pytest.mark.parametrize("kind", KINDS)
def test_each_route_checks_access_in_the_same_order(
    app: Flask,
    session: Session,
    call: Callable[[str, str], TestResponse],
    kind: str,
    failing_ensure: str,
) -> None:
    KINDS[kind](session)
    session.execute(text(failing_ensure or "SELECT 1"))
    session.commit()

    chosen = one_of_each_kind(routes(app)) if failing_ensure else routes(app)
    for method, path, access in chosen:
        with rolled_back(session):
            response = call(method, path)
        expected = EXPECTED_ERRORS.get((kind, access))
        if expected is not None:
            assert response.status_code == expected[0], (method, path)
            assert code_of(response) in (None, expected[1]), (method, path)
        elif access is not Access.SIGNED_IN:  # the view decides there
            assert response.status_code not in (401, 403), (method, path)


def test_anonymous_request_has_no_access_to_any_route(app: Flask, client: FlaskClient) -> None:
    for method, path, _ in routes(app):
        response = client.open(path, method=method, headers=SAME_ORIGIN)
        is_page_visit = method == "GET" and not path.startswith("/api/")
        assert response.status_code == (302 if is_page_visit else 401), (method, path)


@pytest.mark.parametrize("path", ["/api/mentorados/{}", "/api/mentorados/{}/overview"])
@pytest.mark.parametrize("kind", ["blocked admin", "deleted admin", "revoked admin"])
def test_denied_admin_cannot_read_another_profile(
    session: Session,
    call: Callable[[str, str], TestResponse],
    path: str,
    kind: str,
    failing_ensure: str,
) -> None:
    other = Mentorado(nome_completo="Bob", email=BOB.email, turma="neon")
    session.add(other)
    KINDS[kind](session)
    session.execute(text(failing_ensure or "SELECT 1"))
    session.commit()

    assert call("GET", path.format(other.id)).status_code in (401, 403)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/admin/users/{user}/block"), ("DELETE", "/api/admin/mentorados/{profile}")],
)
def test_admin_cannot_block_the_own_account_or_delete_the_own_profile(
    session: Session,
    alice: Mentorado,
    call: Callable[[str, str], TestResponse],
    method: str,
    path: str,
) -> None:
    become_admin(session)
    session.commit()

    response = call(method, path.format(user=alice.user_id, profile=alice.id))

    assert (response.status_code, code_of(response)) == (409, "conflict")


def test_deleted_account_loses_its_role(session: Session, alice: Mentorado) -> None:
    become_admin(session)
    session.commit()
    user = session.get_one(User, alice.user_id)

    handle_account_deletion(session, ALICE.clerk_id, source=Source("webhook"), now=NOW)

    assert user.role is Role.USER
