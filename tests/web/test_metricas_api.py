"""Months by the API: any of their fields, exact types, and nothing half written."""

import json
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from dashboard.months import FIGURES
from dev.fake_clerk import ADMIN_EMAIL, DevUser
from models import Mentorado, MetricaMensal, User
from tests.support.types import Sign
from tests.support.users import ALICE, BOB, CHARLIE, NOW
from web.services import EXTENSION, Services

MONTHS = "/api/mentorados/me/metricas"
MARCH = f"{MONTHS}/2026/3"
ADMIN = DevUser("user_admin", "Dona Admin", ADMIN_EMAIL)
ZEROS = {
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
    """It is the tenth of March 2026."""
    monkeypatch.setitem(app.extensions, EXTENSION, replace(services, now=lambda: NOW))


def months_in(session: Session) -> int:
    return session.scalars(select(func.count()).select_from(MetricaMensal)).one()


def code_of(answer: TestResponse) -> object:
    return (answer.json or {}).get("code")


def errors_of(answer: TestResponse) -> Any:
    return (answer.json or {}).get("errors")


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
def test_bodies_that_are_bombs_or_no_json_are_told_why(
    client: FlaskClient, sign: Sign, body: str, message: str
) -> None:
    answer = client.put(MARCH, data=body, headers=sign(BOB), content_type="application/json")

    assert answer.status_code == 422
    assert [error["message"] for error in errors_of(answer)] == [message]


def test_thousands_of_faults_make_no_answer_of_that_size(client: FlaskClient, sign: Sign) -> None:
    answer = client.put(MARCH, json=dict.fromkeys(map(str, range(5_000)), 1), headers=sign(BOB))

    assert (answer.status_code, len(errors_of(answer))) == (422, 50)


def test_month_that_is_reported_comes_back_whole(client: FlaskClient, sign: Sign) -> None:
    answer = client.put(MARCH, json={"faturamento": 12_500, "leads": 7}, headers=sign(BOB))

    told = dict(answer.json or {})
    assert told.pop("updated_at") == "2026-03-10T12:00:00Z"
    assert told == {**ZEROS, "ano": 2026, "mes": 3, "faturamento": 12_500, "leads": 7}


def test_each_figure_comes_back_under_its_own_name(client: FlaskClient, sign: Sign) -> None:
    figures = {name: value for value, name in enumerate(FIGURES, 1)}

    told = client.put(MARCH, json=figures, headers=sign(BOB)).json or {}

    assert {name: told[name] for name in FIGURES} == figures


def test_fields_that_are_left_out_stay(client: FlaskClient, sign: Sign) -> None:
    client.put(MARCH, json={"faturamento": 12_500, "observacoes": "Bom"}, headers=sign(BOB))

    answer = client.put(MARCH, json={"faturamento": 0, "lucro": 3_000}, headers=sign(BOB))

    told = answer.json or {}
    assert [told[f] for f in ("faturamento", "lucro", "observacoes")] == [0, 3_000, "Bom"]


@pytest.mark.parametrize("profit", [-1, -2_147_483_648, 2_147_483_647])
def test_month_with_a_loss_comes_back_and_is_counted(
    client: FlaskClient, sign: Sign, profit: int
) -> None:
    answer = client.put(MARCH, json={"faturamento": 10, "lucro": profit}, headers=sign(BOB))
    listed = client.get(MONTHS, headers=sign(BOB)).json or {}
    overview = client.get("/api/mentorados/me/overview", headers=sign(BOB)).json or {}

    assert (answer.status_code, (answer.json or {})["lucro"]) == (200, profit)
    assert listed["items"][0]["lucro"] == profit
    assert overview["financials"]["totalProfit"] == profit
    assert overview["financials"]["chartData"][0]["lucro"] == profit


def test_note_is_taken_away_by_null_or_blanks(client: FlaskClient, sign: Sign) -> None:
    notes = []
    for words in ("Bom\r\nmês", None, "  Ótimo ", "  "):
        answer = client.put(MARCH, json={"observacoes": words}, headers=sign(BOB))
        notes.append((answer.json or {})["observacoes"])

    assert notes == ["Bom\nmês", None, "Ótimo", None]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("x" * 5_000, "x" * 5_000),
        (" " + "x" * 5_000 + "\r\n", "x" * 5_000),
        ("Leads:\t12", "Leads:\t12"),
        ("Ótimo 👩\u200d⚕\ufe0f", "Ótimo 👩\u200d⚕\ufe0f"),
    ],
    ids=["longest", "longest but for blanks", "tab", "joined characters"],
)
def test_note_that_fits_is_kept(client: FlaskClient, sign: Sign, sent: str, kept: str) -> None:
    answer = client.put(MARCH, json={"observacoes": sent}, headers=sign(BOB))

    assert (answer.json or {}).get("observacoes") == kept


def test_whole_number_may_be_written_as_a_fraction(client: FlaskClient, sign: Sign) -> None:
    headers = {**sign(BOB), "Content-Type": "application/json"}

    answer = client.put(MARCH, data='{"leads": 12.0}', headers=headers)

    assert (answer.json or {})["leads"] == 12


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


def test_months_of_somebody_else_are_not_listed(client: FlaskClient, sign: Sign) -> None:
    client.put(MARCH, json={"lucro": 1}, headers=sign(ALICE))

    assert client.get(MONTHS, headers=sign(BOB)).json == {"items": []}


def test_reported_month_is_on_the_dashboard_at_once(client: FlaskClient, sign: Sign) -> None:
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
def test_what_does_not_fit_is_named_and_nothing_is_written(
    client: FlaskClient, sign: Sign, session: Session, body: object, field: str, message: str
) -> None:
    headers = {**sign(BOB), "Content-Type": "application/json"}

    answer = client.put(MARCH, data=json.dumps(body), headers=headers)

    assert (answer.status_code, months_in(session)) == (422, 0)
    assert errors_of(answer) == [{"field": field, "message": message}]


def test_one_wrong_field_keeps_the_good_ones_from_being_written(
    client: FlaskClient, sign: Sign, session: Session
) -> None:
    answer = client.put(MARCH, json={"lucro": 5, "leads": -1}, headers=sign(BOB))

    assert (answer.status_code, months_in(session)) == (422, 0)


@pytest.mark.parametrize(
    ("period", "field", "message"),
    [
        ("2026/4", "mes", "Este mês ainda não começou."),
        ("2026/13", "mes", "Informe um mês de 1 a 12."),
        ("2026/0", "mes", "Informe um mês de 1 a 12."),
        ("1999/12", "ano", "Informe um ano a partir de 2000."),
    ],
)
def test_months_that_cannot_be_reported_are_refused(
    client: FlaskClient, sign: Sign, period: str, field: str, message: str
) -> None:
    answer = client.put(f"{MONTHS}/{period}", json={"lucro": 1}, headers=sign(BOB))

    assert (answer.status_code, errors_of(answer)) == (422, [{"field": field, "message": message}])


@pytest.mark.parametrize("period", ["2026/100", "10000/1", "99999999999999999999/1", "x/1"])
def test_addresses_of_no_month_are_not_found(client: FlaskClient, sign: Sign, period: str) -> None:
    assert client.put(f"{MONTHS}/{period}", json={}, headers=sign(BOB)).status_code == 404


def test_goals_that_are_set_for_a_mentee_fabricate_no_month(
    client: FlaskClient, sign: Sign, session: Session
) -> None:
    goals = {"nome_completo": "Eva", "email": "eva@example.com", "meta_leads": 5}
    client.post("/api/admin/mentorados", json=goals, headers=sign(ADMIN))
    eva = DevUser("user_eva", "Eva", "eva@example.com")

    listed = client.get(MONTHS, headers=sign(eva)).json

    assert (listed, months_in(session)) == ({"items": []}, 0)


def test_profile_that_went_away_meanwhile_is_made_anew_before_the_month_is_written(
    client: FlaskClient, sign: Sign, session: Session
) -> None:
    gone = (client.get("/api/mentorados/me", headers=sign(BOB)).json or {})["id"]
    session.delete(session.get_one(Mentorado, gone))
    session.commit()

    answer = client.put(MARCH, json={"lucro": 5}, headers=sign(BOB))

    owner = session.scalars(select(MetricaMensal.mentorado_id)).one()
    assert (answer.status_code, owner != gone) == (200, True)


def test_profile_that_got_another_owner_meanwhile_is_neither_written_nor_shown(
    client: FlaskClient, sign: Sign, session: Session
) -> None:
    given = (client.get("/api/mentorados/me", headers=sign(BOB)).json or {})["id"]
    client.get("/api/mentorados/me", headers=sign(CHARLIE))
    charlie = session.scalars(select(User.id).where(User.clerk_id == CHARLIE.clerk_id)).one()
    session.execute(delete(Mentorado).where(Mentorado.user_id == charlie))
    session.execute(update(Mentorado).where(Mentorado.id == given).values(user_id=charlie))
    session.commit()  # nothing is published: the request context of Bob stays in the cache

    answer = client.put(MARCH, json={"lucro": 5}, headers=sign(BOB))

    written = session.scalars(select(MetricaMensal.mentorado_id)).one()
    assert (answer.status_code, written != given) == (200, True)


def test_profile_that_went_away_with_its_person_is_told_by_the_cause(
    client: FlaskClient, sign: Sign, session: Session
) -> None:
    gone = (client.get("/api/mentorados/me", headers=sign(BOB)).json or {})["id"]
    session.delete(session.get_one(Mentorado, gone))
    session.execute(update(User).values(blocked_at=NOW))
    session.commit()

    answer = client.put(MARCH, json={"lucro": 5}, headers=sign(BOB))

    assert (answer.status_code, code_of(answer)) == (403, "user_blocked")


def test_whoever_is_blocked_reports_nothing(
    client: FlaskClient, sign: Sign, session: Session, alice: Mentorado
) -> None:
    session.execute(update(User).values(blocked_at=NOW))
    session.commit()

    answer = client.put(MARCH, json={"lucro": 5}, headers=sign(ALICE))

    assert (answer.status_code, code_of(answer)) == (403, "user_blocked")
    assert months_in(session) == 0


@pytest.mark.parametrize("path", ["", "/overview"])
def test_whoever_is_blocked_is_told_so_under_their_own_number(
    client: FlaskClient, sign: Sign, session: Session, alice: Mentorado, path: str
) -> None:
    session.execute(update(User).values(blocked_at=NOW))
    session.commit()

    answer = client.get(f"/api/mentorados/{alice.id}{path}", headers=sign(ALICE))

    assert (answer.status_code, code_of(answer)) == (403, "user_blocked")


@pytest.mark.parametrize("path", ["", "/overview"])
def test_own_profile_is_shown_by_its_number_too(
    client: FlaskClient, sign: Sign, alice: Mentorado, path: str
) -> None:
    by_number = client.get(f"/api/mentorados/{alice.id}{path}", headers=sign(ALICE)).json or {}

    own = client.get(f"/api/mentorados/me{path}", headers=sign(ALICE)).json or {}
    assert by_number == own


@pytest.mark.parametrize("path", ["", "/overview"])
def test_profile_of_somebody_else_is_for_admins_only(
    client: FlaskClient, sign: Sign, alice: Mentorado, path: str
) -> None:
    address = f"/api/mentorados/{alice.id}{path}"

    statuses = [client.get(address, headers=sign(who)).status_code for who in (BOB, ADMIN)]

    assert statuses == [403, 200]


@pytest.mark.parametrize("path", ["", "/overview"])
@pytest.mark.parametrize(("who", "status"), [(ADMIN, 404), (BOB, 403)])
def test_number_of_nobody_tells_a_mentee_nothing(
    client: FlaskClient, sign: Sign, path: str, who: DevUser, status: int
) -> None:
    answer = client.get(f"/api/mentorados/2147483647{path}", headers=sign(who))

    assert answer.status_code == status
