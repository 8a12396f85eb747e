"""Lists for admins: people by state, profiles by text, events by time; page by page."""

from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from sqlalchemy import insert
from sqlalchemy.orm import Session

from models import AuditEvent, Mentorado, ProvisioningAttempt, User
from models.columns import SimNao
from models.mentorado import Turma
from models.user import Role
from tests.support.users import NOW

PEOPLE, PROFILES, AUDIT = "/api/admin/users", "/api/admin/mentorados", "/api/admin/audit"
STATES = ["admin", "attention", "blocked", "missing", "pending", "ready"]


def add(session: Session, name: str, **facts: Any) -> User:
    user = User(clerk_id=f"user_{name}", name=name, email=f"{name}@example.com", **facts)
    session.add(user)
    session.flush()  # profiles need the id
    return user


def add_profile(session: Session, user: User, **facts: Any) -> None:
    session.add(Mentorado(user_id=user.id, nome_completo=str(user.name), turma=Turma.NEON, **facts))


def add_attempt(session: Session, user: User, state: str) -> None:
    session.add(
        ProvisioningAttempt(
            clerk_id=user.clerk_id,
            state=state,
            attempts=3,
            next_attempt_at=NOW,
            error_class="IntegrityError",
            request_id=f"req-{user.name}",
            first_failed_at=NOW,
            last_failed_at=NOW,
        )
    )


@pytest.fixture
def crowd(session: Session, admin: dict[str, str]) -> None:
    """Somebody in every state, and some who could be mistaken for another."""
    add(session, "missing")
    add_profile(session, add(session, "ready"))
    add_attempt(session, add(session, "pending"), "pending")
    add_attempt(session, add(session, "attention"), "dead")
    add(session, "blocked", blocked_at=NOW)
    add(session, "gone", deleted_at=NOW)
    add_profile(session, add(session, "inactive"), ativo=SimNao.NAO)
    add_profile(session, add(session, "chief", role=Role.ADMIN))
    cured = add(session, "cured")
    add_profile(session, cured)
    add_attempt(session, cured, "dead")
    session.commit()


def names(client: FlaskClient, admin: dict[str, str], path: str) -> list[str]:
    items = (client.get(path, headers=admin).json or {})["items"]
    return [item.get("name") or item["nome_completo"] for item in items]


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("ready", ["ready", "cured"]),
        ("missing", ["missing"]),
        ("pending", ["pending"]),
        ("attention", ["attention"]),
        ("blocked", ["blocked", "gone", "inactive"]),
        ("admin", ["Charlie Reis", "chief"]),
    ],
)
def test_everybody_is_in_one_state(
    client: FlaskClient, admin: dict[str, str], state: str, expected: list[str]
) -> None:
    assert names(client, admin, f"{PEOPLE}?state={state}") == expected


@pytest.mark.usefixtures("crowd")
def test_every_person_carries_the_state_they_are_listed_under(
    client: FlaskClient, admin: dict[str, str]
) -> None:
    everybody = (client.get(PEOPLE, headers=admin).json or {})["items"]
    by_state = {
        state: (client.get(f"{PEOPLE}?state={state}", headers=admin).json or {})["items"]
        for state in STATES
    }

    assert sorted(p["id"] for p in everybody) == sorted(
        p["id"] for people in by_state.values() for p in people
    )
    assert all(p["state"] == state for state, people in by_state.items() for p in people)


def test_unknown_state_is_refused(client: FlaskClient, admin: dict[str, str]) -> None:
    answer = client.get(f"{PEOPLE}?state=happy", headers=admin)

    assert (answer.status_code, (answer.json or {})["errors"][0]["field"]) == (422, "state")


def test_person_is_shown_with_times_and_profile(
    client: FlaskClient, admin: dict[str, str], session: Session
) -> None:
    add_attempt(session, add(session, "bia", created_at=NOW, last_signed_in=NOW), "pending")
    session.commit()

    [bia] = (client.get(f"{PEOPLE}?q=bia", headers=admin).json or {})["items"]

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


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize(
    ("wanted", "expected"),
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
def test_people_are_found_by_what_support_is_told(
    client: FlaskClient, admin: dict[str, str], wanted: str, expected: list[str]
) -> None:
    assert names(client, admin, f"{PEOPLE}?q={wanted}&limit=2") == expected


def test_person_is_found_by_the_code_of_what_happened_to_them(
    client: FlaskClient, admin: dict[str, str], session: Session
) -> None:
    bia = add(session, "bia")
    session.add(
        AuditEvent(event="mentorado_created", entry="page", user_id=bia.id, request_id="req-1")
    )
    session.commit()

    assert names(client, admin, f"{PEOPLE}?q=req-1") == ["bia"]


@pytest.mark.parametrize("path", [PEOPLE, PROFILES])
def test_lists_are_turned_page_by_page(
    client: FlaskClient, admin: dict[str, str], session: Session, path: str
) -> None:
    for name in "abc":
        add_profile(session, add(session, name))
    session.commit()
    seen: list[str] = []
    cursor: object = "0"

    while cursor is not None:
        page = client.get(f"{path}?limit=2&cursor={cursor}", headers=admin).json or {}
        seen += [item.get("name") or item["nome_completo"] for item in page["items"]]
        cursor = page["next_cursor"]

    assert [name for name in seen if name in "abc"] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("éva", ["Éva Melo"]), ("FABIO@", ["Fabio"]), ("", ["Éva Melo", "Fabio"]), ("100%25", [])],
)
def test_profiles_are_found_by_name_or_address(
    client: FlaskClient,
    admin: dict[str, str],
    session: Session,
    wanted: str,
    expected: list[str],
) -> None:
    session.add(Mentorado(nome_completo="Éva Melo", turma=Turma.NEON))
    session.add(Mentorado(nome_completo="Fabio", email="fabio@example.com", turma=Turma.NEON))
    session.commit()

    assert names(client, admin, f"{PROFILES}?q={wanted}") == expected


@pytest.mark.parametrize("path", [PEOPLE, PROFILES])
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("ana@github.com", ["one"]),
        ("ANA@Git", ["one"]),
        ("ana@gİthub.com", ["look-alike"]),
        ("eva@xn--bcher-kva.de", ["other spelling"]),
        ("eva@bücher.de", ["other spelling"]),
    ],
    ids=ascii,
)
def test_search_by_address_finds_its_spellings_and_no_look_alike(
    client: FlaskClient,
    admin: dict[str, str],
    session: Session,
    path: str,
    wanted: str,
    expected: list[str],
) -> None:
    found = {
        "one": "ana@github.com",
        "look-alike": "ana@gİthub.com",
        "other spelling": "eva@bücher.de",
    }
    for name, email in found.items():
        user = User(clerk_id=email, name=name, email=email)
        session.add(user)
        session.flush()  # the profile needs the id
        session.add(Mentorado(user_id=user.id, nome_completo=name, email=email, turma=Turma.NEON))
    session.commit()

    assert names(client, admin, f"{path}?q={quote(wanted)}") == expected


def test_events_are_told_from_the_newest_back(
    client: FlaskClient, admin: dict[str, str], session: Session
) -> None:
    for hour in range(3):
        session.add(AuditEvent(event=f"event_{hour}", entry="cli", at=NOW + timedelta(hours=hour)))
        session.flush()  # their ids tell the order
    session.commit()

    first = client.get(f"{AUDIT}?limit=2", headers=admin).json or {}
    second = client.get(f"{AUDIT}?limit=2&cursor={first['next_cursor']}", headers=admin).json or {}

    assert [e["event"] for e in first["items"]] == ["event_2", "event_1"]
    assert [e["event"] for e in second["items"]] == ["event_0"]
    assert first["items"][0]["at"] == "2026-03-10T14:00:00Z"


@pytest.mark.parametrize("cursor", ["x", "-1", "9" * 20, "0" * 30])
def test_cursor_that_is_none_is_refused(
    client: FlaskClient, admin: dict[str, str], cursor: str
) -> None:
    assert client.get(f"{AUDIT}?cursor={cursor}", headers=admin).status_code == 422


def test_list_is_capped_however_many_are_asked_for(
    client: FlaskClient, admin: dict[str, str], session: Session
) -> None:
    session.execute(insert(User), [{"clerk_id": f"user_{i}"} for i in range(205)])
    session.commit()

    page = client.get(f"{PEOPLE}?limit=1000", headers=admin).json or {}
    rest = client.get(f"{PEOPLE}?limit=1000&cursor={page['next_cursor']}", headers=admin).json or {}

    assert (len(page["items"]), len(rest["items"]), rest["next_cursor"]) == (200, 6, None)


def test_parameter_that_is_too_high_is_told_the_highest(
    client: FlaskClient, admin: dict[str, str]
) -> None:
    answer = client.get(f"{PEOPLE}?cursor=2147483648", headers=admin)

    assert (answer.json or {})["errors"] == [
        {"field": "cursor", "message": "Informe no máximo 2.147.483.647."}
    ]


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize(("query", "status"), [("q=a&q=b", 422), ("state=&q=&cursor=", 200)])
def test_parameter_is_given_once_or_left_blank(
    client: FlaskClient, admin: dict[str, str], query: str, status: int
) -> None:
    assert client.get(f"{PEOPLE}?{query}", headers=admin).status_code == status
