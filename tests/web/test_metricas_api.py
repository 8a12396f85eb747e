"""Months by the API: any of the fields, exact types, all or nothing."""

import json
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from dev.fake_clerk import ADMIN_EMAIL, DevUser
from models import Mentorado, MetricaMensal, User
from models.people import FIGURES
from tests.support.types import Sign
from tests.support.users import ALICE, BOB, CHARLIE, NOW
from web.services import EXTENSION, Services

MONTHS = "/api/mentorados/me/metricas"
MARCH = f"{MONTHS}/2026/3"
ADMIN = DevUser("user_admin", "Dona Admin", ADMIN_EMAIL)
EMPTY_MONTH = {
    "faturamento": 0,
    "lucro": 0,
    "posts_feed": 0,
    "stories": 0,
    "leads": 0,
    "procedimentos": 0,
    "observacoes": None,
}


@pytest.fixture(autouse=True)
def in_march(app: Flask, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the date to the tenth of March 2026."""
    monkeypatch.setitem(app.extensions, EXTENSION, replace(services, now=lambda: NOW))


def months_in(session: Session) -> int:
    return session.scalars(select(func.count()).select_from(MetricaMensal)).one()


def code_of(response: TestResponse) -> object:
    return (response.json or {}).get("code")


def errors_of(response: TestResponse) -> Any:
    return (response.json or {}).get("errors")


def nested(levels: int) -> str:
    return '{"leads":' * levels + "1" + "}" * levels


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (nested(20), "Informe um número inteiro."),
        (nested(21), "O JSON passa de 20 níveis."),
        ("[" * 65_000, "O JSON passa de 20 níveis."),
        ('{"leads": ' + "9" * 5_000 + "}", "O conteúdo não é um JSON válido."),
        ('{"leads": NaN}', "O conteúdo não é um JSON válido."),
        ("-Infinity", "O conteúdo não é um JSON válido."),
    ],
)
def test_malformed_body_is_refused_with_a_reason(
    client: FlaskClient, sign: Sign, body: str, message: str
) -> None:
    response = client.put(MARCH, data=body, headers=sign(BOB), content_type="application/json")

    assert response.status_code == 422
    assert [error["message"] for error in errors_of(response)] == [message]


def test_number_of_reported_errors_is_limited(client: FlaskClient, sign: Sign) -> None:
    response = client.put(MARCH, json=dict.fromkeys(map(str, range(5_000)), 1), headers=sign(BOB))

    assert (response.status_code, len(errors_of(response))) == (422, 50)


def test_saved_month_is_returned_with_all_fields(client: FlaskClient, sign: Sign) -> None:
    response = client.put(MARCH, json={"faturamento": 12_500, "leads": 7}, headers=sign(BOB))

    month = dict(response.json or {})
    assert month.pop("updated_at") == "2026-03-10T12:00:00Z"
    assert month == {**EMPTY_MONTH, "ano": 2026, "mes": 3, "faturamento": 12_500, "leads": 7}


def test_each_figure_is_returned_under_its_name(client: FlaskClient, sign: Sign) -> None:
    figures = {name: value for value, name in enumerate(FIGURES, 1)}

    month = client.put(MARCH, json=figures, headers=sign(BOB)).json or {}

    assert {name: month[name] for name in FIGURES} == figures


def test_missing_fields_stay_unchanged(client: FlaskClient, sign: Sign) -> None:
    client.put(MARCH, json={"faturamento": 12_500, "observacoes": "Bom"}, headers=sign(BOB))

    response = client.put(MARCH, json={"faturamento": 0, "lucro": 3_000}, headers=sign(BOB))

    month = response.json or {}
    assert [month[f] for f in ("faturamento", "lucro", "observacoes")] == [0, 3_000, "Bom"]


@pytest.mark.parametrize("profit", [-1, -2_147_483_648, 2_147_483_647])
def test_month_with_a_loss_is_returned_and_counted(
    client: FlaskClient, sign: Sign, profit: int
) -> None:
    response = client.put(MARCH, json={"faturamento": 10, "lucro": profit}, headers=sign(BOB))
    listed = client.get(MONTHS, headers=sign(BOB)).json or {}
    overview = client.get("/api/mentorados/me/overview", headers=sign(BOB)).json or {}

    assert (response.status_code, (response.json or {})["lucro"]) == (200, profit)
    assert listed["items"][0]["lucro"] == profit
    assert overview["financials"]["totalProfit"] == profit
    assert overview["financials"]["chartData"][0]["lucro"] == profit


def test_note_is_removed_by_null_or_blanks(client: FlaskClient, sign: Sign) -> None:
    notes = []
    for note in ("Bom\r\nmês", None, "  Ótimo ", "  "):
        response = client.put(MARCH, json={"observacoes": note}, headers=sign(BOB))
        notes.append((response.json or {})["observacoes"])

    assert notes == ["Bom\nmês", None, "Ótimo", None]


@pytest.mark.parametrize(
    ("typed", "saved"),
    [
        ("x" * 5_000, "x" * 5_000),
        (" " + "x" * 5_000 + "\r\n", "x" * 5_000),
        ("Leads:\t12", "Leads:\t12"),
        ("Ótimo 👩\u200d⚕\ufe0f", "Ótimo 👩\u200d⚕\ufe0f"),
    ],
    ids=["longest", "longest but for blanks", "tab", "joined characters"],
)
def test_valid_note_is_saved(client: FlaskClient, sign: Sign, typed: str, saved: str) -> None:
    response = client.put(MARCH, json={"observacoes": typed}, headers=sign(BOB))

    assert (response.json or {}).get("observacoes") == saved


def test_whole_number_may_be_written_as_a_fraction(client: FlaskClient, sign: Sign) -> None:
    headers = {**sign(BOB), "Content-Type": "application/json"}

    response = client.put(MARCH, data='{"leads": 12.0}', headers=headers)

    assert (response.json or {})["leads"] == 12


def test_months_are_listed_newest_first(client: FlaskClient, sign: Sign) -> None:
    for period in ("2026/1", "2025/12", "2026/3"):
        client.put(f"{MONTHS}/{period}", json={"lucro": 1}, headers=sign(BOB))

    listed = (client.get(MONTHS, headers=sign(BOB)).json or {})["items"]

    assert [(m["ano"], m["mes"]) for m in listed] == [(2026, 3), (2026, 1), (2025, 12)]


def test_more_than_a_year_is_listed(client: FlaskClient, sign: Sign) -> None:
    for period in (*(f"2025/{mes}" for mes in range(1, 13)), "2026/1"):
        client.put(f"{MONTHS}/{period}", json={"lucro": 1}, headers=sign(BOB))

    listed = (client.get(MONTHS, headers=sign(BOB)).json or {})["items"]

    assert len(listed) == 13


def test_months_of_another_user_are_not_listed(client: FlaskClient, sign: Sign) -> None:
    client.put(MARCH, json={"lucro": 1}, headers=sign(ALICE))

    assert client.get(MONTHS, headers=sign(BOB)).json == {"items": []}


def test_saved_month_is_in_the_overview_at_once(client: FlaskClient, sign: Sign) -> None:
    client.get("/api/mentorados/me/overview", headers=sign(BOB))
    client.put(MARCH, json={"faturamento": 16_000}, headers=sign(BOB))

    overview = client.get("/api/mentorados/me/overview", headers=sign(BOB)).json or {}

    assert (overview["financials"]["totalRevenue"], overview["score"]) == (16_000, 40)


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        *(({f: -1}, f, "Informe zero ou um número maior.") for f in FIGURES if f != "lucro"),
        ({"lucro": -2_147_483_649}, "lucro", "Informe -2.147.483.648 ou um número maior."),
        ({"lucro": 2_147_483_648}, "lucro", "Informe no máximo 2.147.483.647."),
        ({"faturamento": 2_147_483_648}, "faturamento", "Informe no máximo 2.147.483.647."),
        ({"leads": "12"}, "leads", "Informe um número inteiro."),
        ({"leads": 1.5}, "leads", "Informe um número inteiro."),
        ({"leads": None}, "leads", "Informe um número inteiro."),
        ({"leads": True}, "leads", "Informe um número inteiro."),
        ({"meta_faturamento": 9}, "meta_faturamento", "Campo desconhecido."),
        ({"mes": 2}, "mes", "Campo desconhecido."),
        ({"\ud800": 2}, "", "Valor inválido."),
        (
            {"observacoes": "x" * 5_001},
            "observacoes",
            "Escreva até 5.000 caracteres, sem caracteres de controle.",
        ),
        (
            {"observacoes": "a\x00b"},
            "observacoes",
            "Escreva até 5.000 caracteres, sem caracteres de controle.",
        ),
        (
            {"observacoes": "a\rb"},
            "observacoes",
            "Escreva até 5.000 caracteres, sem caracteres de controle.",
        ),
        ({"observacoes": 5}, "observacoes", "Informe um texto."),
        (
            {"observacoes": "\ud800"},
            "observacoes",
            "Escreva até 5.000 caracteres, sem caracteres de controle.",
        ),
        ({}, "", "Informe ao menos um campo."),
        ([], "", "Envie um objeto JSON."),
    ],
)
def test_invalid_field_is_named_and_nothing_is_written(
    client: FlaskClient, sign: Sign, session: Session, body: object, field: str, message: str
) -> None:
    headers = {**sign(BOB), "Content-Type": "application/json"}

    response = client.put(MARCH, data=json.dumps(body), headers=headers)

    assert (response.status_code, months_in(session)) == (422, 0)
    assert errors_of(response) == [{"field": field, "message": message}]


def test_one_invalid_field_prevents_the_whole_save(
    client: FlaskClient, sign: Sign, session: Session
) -> None:
    response = client.put(MARCH, json={"lucro": 5, "leads": -1}, headers=sign(BOB))

    assert (response.status_code, months_in(session)) == (422, 0)


@pytest.mark.parametrize(
    ("period", "field", "message"),
    [
        ("2026/4", "mes", "Este mês ainda não começou."),
        ("2026/13", "mes", "Informe um mês de 1 a 12."),
        ("2026/0", "mes", "Informe um mês de 1 a 12."),
        ("1999/12", "ano", "Informe um ano a partir de 2000."),
    ],
)
def test_future_or_invalid_month_is_refused(
    client: FlaskClient, sign: Sign, period: str, field: str, message: str
) -> None:
    response = client.put(f"{MONTHS}/{period}", json={"lucro": 1}, headers=sign(BOB))

    assert (response.status_code, errors_of(response)) == (
        422,
        [{"field": field, "message": message}],
    )


@pytest.mark.parametrize("period", ["2026/100", "10000/1", "99999999999999999999/1", "x/1"])
def test_impossible_period_is_not_found(client: FlaskClient, sign: Sign, period: str) -> None:
    assert client.put(f"{MONTHS}/{period}", json={}, headers=sign(BOB)).status_code == 404


def test_goals_of_a_profile_create_no_month(
    client: FlaskClient, sign: Sign, session: Session
) -> None:
    goals = {"nome_completo": "Eva", "email": "eva@example.com", "meta_leads": 5}
    client.post("/api/admin/mentorados", json=goals, headers=sign(ADMIN))
    eva = DevUser("user_eva", "Eva", "eva@example.com")

    listed = client.get(MONTHS, headers=sign(eva)).json

    assert (listed, months_in(session)) == ({"items": []}, 0)


def test_deleted_profile_is_created_again_before_the_month_is_saved(
    client: FlaskClient, sign: Sign, session: Session
) -> None:
    deleted_id = (client.get("/api/mentorados/me", headers=sign(BOB)).json or {})["id"]
    session.delete(session.get_one(Mentorado, deleted_id))
    session.commit()

    response = client.put(MARCH, json={"lucro": 5}, headers=sign(BOB))

    owner = session.scalars(select(MetricaMensal.mentorado_id)).one()
    assert (response.status_code, owner != deleted_id) == (200, True)


def test_month_is_not_saved_into_a_profile_with_another_owner(
    client: FlaskClient, sign: Sign, session: Session
) -> None:
    transferred_id = (client.get("/api/mentorados/me", headers=sign(BOB)).json or {})["id"]
    client.get("/api/mentorados/me", headers=sign(CHARLIE))
    charlie = session.scalars(select(User.id).where(User.clerk_id == CHARLIE.clerk_id)).one()
    session.execute(delete(Mentorado).where(Mentorado.user_id == charlie))
    session.execute(update(Mentorado).where(Mentorado.id == transferred_id).values(user_id=charlie))
    session.commit()  # no invalidation: Bob's context stays cached

    response = client.put(MARCH, json={"lucro": 5}, headers=sign(BOB))

    owner_id = session.scalars(select(MetricaMensal.mentorado_id)).one()
    assert (response.status_code, owner_id != transferred_id) == (200, True)


def test_deleted_profile_of_a_blocked_user_returns_user_blocked(
    client: FlaskClient, sign: Sign, session: Session
) -> None:
    deleted_id = (client.get("/api/mentorados/me", headers=sign(BOB)).json or {})["id"]
    session.delete(session.get_one(Mentorado, deleted_id))
    session.execute(update(User).values(blocked_at=NOW))
    session.commit()

    response = client.put(MARCH, json={"lucro": 5}, headers=sign(BOB))

    assert (response.status_code, code_of(response)) == (403, "user_blocked")


def test_blocked_user_cannot_save_a_month(
    client: FlaskClient, sign: Sign, session: Session, alice: Mentorado
) -> None:
    session.execute(update(User).values(blocked_at=NOW))
    session.commit()

    response = client.put(MARCH, json={"lucro": 5}, headers=sign(ALICE))

    assert (response.status_code, code_of(response)) == (403, "user_blocked")
    assert months_in(session) == 0


@pytest.mark.parametrize("path", ["", "/overview"])
def test_blocked_user_gets_user_blocked_for_the_own_id(
    client: FlaskClient, sign: Sign, session: Session, alice: Mentorado, path: str
) -> None:
    session.execute(update(User).values(blocked_at=NOW))
    session.commit()

    response = client.get(f"/api/mentorados/{alice.id}{path}", headers=sign(ALICE))

    assert (response.status_code, code_of(response)) == (403, "user_blocked")


@pytest.mark.parametrize("path", ["", "/overview"])
def test_own_profile_can_be_read_by_its_id(
    client: FlaskClient, sign: Sign, alice: Mentorado, path: str
) -> None:
    by_id = client.get(f"/api/mentorados/{alice.id}{path}", headers=sign(ALICE)).json or {}

    own = client.get(f"/api/mentorados/me{path}", headers=sign(ALICE)).json or {}
    assert by_id == own


@pytest.mark.parametrize("path", ["", "/overview"])
def test_profile_of_another_user_is_for_admins_only(
    client: FlaskClient, sign: Sign, alice: Mentorado, path: str
) -> None:
    url = f"/api/mentorados/{alice.id}{path}"

    statuses = [client.get(url, headers=sign(user)).status_code for user in (BOB, ADMIN)]

    assert statuses == [403, 200]


@pytest.mark.parametrize("path", ["", "/overview"])
@pytest.mark.parametrize(("user", "status"), [(ADMIN, 404), (BOB, 403)])
def test_unknown_id_is_forbidden_for_mentees_and_not_found_for_admins(
    client: FlaskClient, sign: Sign, path: str, user: DevUser, status: int
) -> None:
    response = client.get(f"/api/mentorados/2147483647{path}", headers=sign(user))

    assert response.status_code == status
