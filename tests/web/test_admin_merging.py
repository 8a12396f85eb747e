"""Merging by the API: dry run, one merge, visible to the mentee at the next request."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, event, select
from sqlalchemy.orm import Session

from models import Mentorado, MetricaMensal
from models.people import Turma
from tests.support.types import Sign
from tests.support.users import ALICE, BOB


@pytest.fixture
def old(session: Session, alice: Mentorado) -> Mentorado:
    """A second profile of Alice with January and February; she has reported January as well."""
    profile = Mentorado(nome_completo="Alice (2025)", turma=Turma.NEON)
    session.add(profile)
    session.flush()  # the months need the id
    for owner, mes, revenue in ((profile, 1, 100), (profile, 2, 150), (alice, 1, 200)):
        session.add(MetricaMensal(mentorado_id=owner.id, ano=2026, mes=mes, faturamento=revenue))
    session.commit()
    return profile


def merge(
    client: FlaskClient, admin: dict[str, str], old: Mentorado, **body: object
) -> dict[str, Any]:
    path = f"/api/admin/mentorados/{old.id}/merge"
    response = client.post(path, headers=admin, json=body)
    return {"status": response.status_code, **(response.json or {})}


def months_of(client: FlaskClient, sign: Sign) -> dict[int, int]:
    items = (client.get("/api/mentorados/me/metricas", headers=sign(ALICE)).json or {})["items"]
    return {item["mes"]: item["faturamento"] for item in items}


def test_dry_run_shows_moved_rows_and_conflicts(
    client: FlaskClient, admin: dict[str, str], old: Mentorado, alice: Mentorado, sign: Sign
) -> None:
    result = merge(client, admin, old, into=alice.id, dry_run=True)

    [conflict] = result["conflicts"]
    assert (result["status"], result["dry_run"], result["moved"]) == (
        200,
        True,
        {"metricas_mensais": 1},
    )
    assert (conflict["kept"]["faturamento"], conflict["archived"]["faturamento"]) == (200, 100)
    assert months_of(client, sign) == {1: 200}


@pytest.mark.parametrize(("prefer", "january"), [("into", 200), ("from", 100)])
def test_merge_is_visible_to_the_mentee_at_once(
    client: FlaskClient,
    admin: dict[str, str],
    old: Mentorado,
    alice: Mentorado,
    sign: Sign,
    prefer: str,
    january: int,
) -> None:
    client.get("/api/auth/me", headers=sign(ALICE))

    merge(client, admin, old, into=alice.id, prefer=prefer)

    assert months_of(client, sign) == {1: january, 2: 150}


def test_second_merge_is_not_found(
    client: FlaskClient, admin: dict[str, str], old: Mentorado, alice: Mentorado
) -> None:
    statuses = [merge(client, admin, old, into=alice.id)["status"] for _ in range(2)]

    assert statuses == [200, 404]


def test_profiles_of_two_users_are_a_conflict(
    client: FlaskClient,
    admin: dict[str, str],
    old: Mentorado,
    alice: Mentorado,
    session: Session,
    sign: Sign,
) -> None:
    bobs_id = (client.get("/api/mentorados/me", headers=sign(BOB)).json or {})["id"]

    result = merge(client, admin, alice, into=bobs_id)

    assert (result["status"], result["code"]) == (409, "conflict")
    assert len(session.scalars(select(MetricaMensal)).all()) == 3


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "into"),
        ({"into": "1"}, "into"),
        ({"into": 0}, "into"),
        ({"into": 2**31}, "into"),
        ({"into": 1, "dry_run": "yes"}, "dry_run"),
        ({"into": 1, "prefer": "me"}, "prefer"),
    ],
)
def test_invalid_field_is_named(
    client: FlaskClient,
    admin: dict[str, str],
    old: Mentorado,
    body: dict[str, object],
    field: str,
) -> None:
    result = merge(client, admin, old, **body)

    assert result["status"] == 422
    assert [error["field"] for error in result["errors"]] == [field]


def test_preview_in_the_console_merges_once(
    console: FlaskClient, old: Mentorado, alice: Mentorado
) -> None:
    deletions: list[str] = []

    def record(_c: object, _k: object, statement: str, *_: object) -> None:
        if statement.startswith("DELETE FROM mentorados"):
            deletions.append(statement)

    event.listen(Engine, "before_cursor_execute", record)
    page = console.get(f"/admin/mentorado/{old.id}/unir?destino={alice.id}&prefere=into")
    event.remove(Engine, "before_cursor_execute", record)

    assert (page.status_code, len(deletions)) == (200, 1)
