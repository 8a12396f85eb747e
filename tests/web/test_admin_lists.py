"""Lists for admins: users by state, profiles by text, audit events by time, with pagination."""

from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from sqlalchemy import insert
from sqlalchemy.orm import Session

from models import AuditEvent, Mentorado, User
from models.people import Role, SimNao, Turma
from tests.support.users import NOW, failed_attempt

USERS, PROFILES, AUDIT = "/api/admin/users", "/api/admin/mentorados", "/api/admin/audit"
STATES = ["admin", "attention", "blocked", "missing", "pending", "ready"]


def add(session: Session, name: str, **columns: Any) -> User:
    user = User(clerk_id=f"user_{name}", name=name, email=f"{name}@example.com", **columns)
    session.add(user)
    session.flush()  # profiles need the id
    return user


def add_profile(session: Session, user: User, **columns: Any) -> None:
    session.add(
        Mentorado(user_id=user.id, nome_completo=str(user.name), turma=Turma.NEON, **columns)
    )


def add_attempt(session: Session, user: User, state: str) -> None:
    session.add(failed_attempt(user.clerk_id, state, attempts=3, request_id=f"req-{user.name}"))


@pytest.fixture
def users_in_all_states(session: Session, admin: dict[str, str]) -> None:
    """Users in every state, some of them in ambiguous combinations."""
    add(session, "missing")
    add_profile(session, add(session, "ready"))
    add_attempt(session, add(session, "pending"), "pending")
    add_attempt(session, add(session, "attention"), "dead")
    add(session, "blocked", blocked_at=NOW)
    add(session, "deleted", deleted_at=NOW)
    add_profile(session, add(session, "inactive"), ativo=SimNao.NAO)
    add_profile(session, add(session, "chief", role=Role.ADMIN))
    recovered = add(session, "recovered")
    add_profile(session, recovered)
    add_attempt(session, recovered, "dead")
    session.commit()


def names(client: FlaskClient, admin: dict[str, str], path: str) -> list[str]:
    items = (client.get(path, headers=admin).json or {})["items"]
    return [item.get("name") or item["nome_completo"] for item in items]


@pytest.mark.usefixtures("users_in_all_states")
@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("ready", ["ready", "recovered"]),
        ("missing", ["missing"]),
        ("pending", ["pending"]),
        ("attention", ["attention"]),
        ("blocked", ["blocked", "deleted", "inactive"]),
        ("admin", ["Charlie Reis", "chief"]),
    ],
)
def test_each_user_has_one_state(
    client: FlaskClient, admin: dict[str, str], state: str, expected: list[str]
) -> None:
    assert names(client, admin, f"{USERS}?state={state}") == expected


@pytest.mark.usefixtures("users_in_all_states")
def test_listed_users_carry_the_state_of_the_filter(
    client: FlaskClient, admin: dict[str, str]
) -> None:
    users = (client.get(USERS, headers=admin).json or {})["items"]
    by_state = {
        state: (client.get(f"{USERS}?state={state}", headers=admin).json or {})["items"]
        for state in STATES
    }

    assert sorted(p["id"] for p in users) == sorted(
        p["id"] for listed in by_state.values() for p in listed
    )
    assert all(p["state"] == state for state, listed in by_state.items() for p in listed)


def test_unknown_state_is_refused(client: FlaskClient, admin: dict[str, str]) -> None:
    response = client.get(f"{USERS}?state=happy", headers=admin)

    assert (response.status_code, (response.json or {})["errors"][0]["field"]) == (422, "state")


def test_user_has_times_and_profile(
    client: FlaskClient, admin: dict[str, str], session: Session
) -> None:
    add_attempt(session, add(session, "bia", created_at=NOW, last_signed_in=NOW), "pending")
    session.commit()

    [bia] = (client.get(f"{USERS}?q=bia", headers=admin).json or {})["items"]

    del bia["id"]
    assert bia == {
        "clerk_id": "user_bia",
        "name": "bia",
        "email": "bia@example.com",
        "role": "user",
        "state": "pending",
        "mentorado_id": None,
        "attempts": 3,
        "created_at": "2026-03-10T12:00:00Z",
        "last_signed_in": "2026-03-10T12:00:00Z",
        "blocked_at": None,
    }


@pytest.mark.usefixtures("users_in_all_states")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("MISS", ["missing"]),
        ("pending%40EXAMPLE", ["pending"]),
        ("user_ready", ["ready"]),
        ("req-attention", ["attention"]),
        ("%25", []),
        ("_ea_y", []),
        ("%00", ["Charlie Reis", "missing"]),
        ("nobody", []),
    ],
)
def test_users_are_found_by_name_address_id_and_reference_code(
    client: FlaskClient, admin: dict[str, str], query: str, expected: list[str]
) -> None:
    assert names(client, admin, f"{USERS}?q={query}&limit=2") == expected


def test_user_is_found_by_the_request_id_of_an_event(
    client: FlaskClient, admin: dict[str, str], session: Session
) -> None:
    bia = add(session, "bia")
    session.add(
        AuditEvent(event="mentorado_created", entry="page", user_id=bia.id, request_id="req-1")
    )
    session.commit()

    assert names(client, admin, f"{USERS}?q=req-1") == ["bia"]


@pytest.mark.parametrize("path", [USERS, PROFILES])
def test_lists_are_paginated(
    client: FlaskClient, admin: dict[str, str], session: Session, path: str
) -> None:
    for name in "abc":
        add_profile(session, add(session, name))
    session.commit()
    listed_names: list[str] = []
    cursor: object = "0"

    while cursor is not None:
        page = client.get(f"{path}?limit=2&cursor={cursor}", headers=admin).json or {}
        listed_names += [item.get("name") or item["nome_completo"] for item in page["items"]]
        cursor = page["next_cursor"]

    assert [name for name in listed_names if name in "abc"] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [("éva", ["Éva Melo"]), ("FABIO@", ["Fabio"]), ("", ["Éva Melo", "Fabio"]), ("100%25", [])],
)
def test_profiles_are_found_by_name_or_address(
    client: FlaskClient,
    admin: dict[str, str],
    session: Session,
    query: str,
    expected: list[str],
) -> None:
    session.add(Mentorado(nome_completo="Éva Melo", turma=Turma.NEON))
    session.add(Mentorado(nome_completo="Fabio", email="fabio@example.com", turma=Turma.NEON))
    session.commit()

    assert names(client, admin, f"{PROFILES}?q={query}") == expected


@pytest.mark.parametrize("path", [USERS, PROFILES])
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("ana@github.com", ["one"]),
        ("ANA@Git", ["one"]),
        ("ana@gİthub.com", ["look-alike"]),
        ("eva@xn--bcher-kva.de", ["other spelling"]),
        ("eva@bücher.de", ["other spelling"]),
    ],
    ids=ascii,
)
def test_search_by_address_finds_equal_addresses_and_no_look_alike(
    client: FlaskClient,
    admin: dict[str, str],
    session: Session,
    path: str,
    query: str,
    expected: list[str],
) -> None:
    addresses = {
        "one": "ana@github.com",
        "look-alike": "ana@gİthub.com",
        "other spelling": "eva@bücher.de",
    }
    for name, email in addresses.items():
        user = User(clerk_id=email, name=name, email=email)
        session.add(user)
        session.flush()  # the profile needs the id
        session.add(Mentorado(user_id=user.id, nome_completo=name, email=email, turma=Turma.NEON))
    session.commit()

    assert names(client, admin, f"{path}?q={quote(query)}") == expected


def test_events_are_listed_newest_first(
    client: FlaskClient, admin: dict[str, str], session: Session
) -> None:
    for hour in range(3):
        session.add(AuditEvent(event=f"event_{hour}", entry="cli", at=NOW + timedelta(hours=hour)))
        session.flush()  # the ids determine the order
    session.commit()

    first = client.get(f"{AUDIT}?limit=2", headers=admin).json or {}
    second = client.get(f"{AUDIT}?limit=2&cursor={first['next_cursor']}", headers=admin).json or {}

    assert [e["event"] for e in first["items"]] == ["event_2", "event_1"]
    assert [e["event"] for e in second["items"]] == ["event_0"]
    assert first["items"][0]["at"] == "2026-03-10T14:00:00Z"


@pytest.mark.parametrize("cursor", ["x", "-1", "9" * 20, "0" * 30])
def test_invalid_cursor_is_refused(client: FlaskClient, admin: dict[str, str], cursor: str) -> None:
    assert client.get(f"{AUDIT}?cursor={cursor}", headers=admin).status_code == 422


def test_page_size_is_limited(client: FlaskClient, admin: dict[str, str], session: Session) -> None:
    session.execute(insert(User), [{"clerk_id": f"user_{i}"} for i in range(205)])
    session.commit()

    page = client.get(f"{USERS}?limit=1000", headers=admin).json or {}
    second = (
        client.get(f"{USERS}?limit=1000&cursor={page['next_cursor']}", headers=admin).json or {}
    )

    assert (len(page["items"]), len(second["items"]), second["next_cursor"]) == (200, 6, None)


def test_error_of_a_too_large_parameter_contains_the_maximum(
    client: FlaskClient, admin: dict[str, str]
) -> None:
    response = client.get(f"{USERS}?cursor=2147483648", headers=admin)

    assert (response.json or {})["errors"] == [
        {"field": "cursor", "message": "Informe no máximo 2.147.483.647."}
    ]


@pytest.mark.usefixtures("users_in_all_states")
@pytest.mark.parametrize(("query", "status"), [("q=a&q=b", 422), ("state=&q=&cursor=", 200)])
def test_parameter_may_be_blank_but_not_repeated(
    client: FlaskClient, admin: dict[str, str], query: str, status: int
) -> None:
    assert client.get(f"{USERS}?{query}", headers=admin).status_code == status
