"""The list of profiles as a CSV file: all or the filtered ones, safe to open, fit for an import."""

import csv
import html
import io

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from models import Mentorado
from models.people import SimNao, Turma
from web.csv_export import BATCH_ROWS
from web.csv_import import read_list

PATH = "/api/admin/mentorados.csv"


def rows_of(content: str) -> list[dict[str, str]]:
    assert content.startswith("\ufeff")
    return list(csv.DictReader(io.StringIO(content[1:]), delimiter=";"))


def download(console: FlaskClient, query: str = "") -> list[dict[str, str]]:
    return rows_of(console.get(f"{PATH}{query}").get_data(as_text=True))


def add(session: Session, name: str, **columns: object) -> Mentorado:
    profile = Mentorado(**{"nome_completo": name, "turma": Turma.NEON, **columns})
    session.add(profile)
    session.commit()
    return profile


def test_file_has_all_values_in_words(
    console: FlaskClient, alice: Mentorado, session: Session
) -> None:
    alice.ativo, alice.meta_leads = SimNao.NAO, 70
    session.commit()

    response = console.get(PATH)

    [row] = rows_of(response.get_data(as_text=True))
    assert response.content_type == "text/csv; charset=utf-8"
    assert response.headers["Content-Disposition"] == "attachment; filename=mentorados.csv"
    created_at = row.pop("Criado em")
    assert created_at.startswith("20")
    assert row == {
        "Nome completo": "Alice Prado",
        "E-mail": alice.email,
        "Meta de faturamento": "16000",
        "Meta de leads": "70",
        "Meta de procedimentos": "10",
        "Meta de posts": "12",
        "Meta de stories": "60",
        "Número": str(alice.id),
        "Pessoa": str(alice.user_id),
        "Turma": "neon",
        "Ativo": "não",
    }


def test_file_has_every_profile_of_many_once_and_in_order(
    console: FlaskClient, session: Session
) -> None:
    profiles = "INSERT INTO mentorados (nome_completo, turma) SELECT 'P ' || n, 'neon'"
    session.execute(text(f"{profiles} FROM generate_series(1, {2 * BATCH_ROWS + 1}) n"))
    session.commit()

    rows = download(console)

    assert [row["Nome completo"] for row in rows] == [f"P {n + 1}" for n in range(len(rows))]
    assert len(rows) == 2 * BATCH_ROWS + 1


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?q=alice", ["Alice Prado"]),
        ("?tipo=esperando", ["Espera"]),
        ("?tipo=ativos&q=espera", ["Espera"]),
        ("?tipo=inativos", []),
    ],
)
def test_file_has_the_filtered_profiles(
    console: FlaskClient, alice: Mentorado, session: Session, query: str, expected: list[str]
) -> None:
    add(session, "Espera")

    assert [row["Nome completo"] for row in download(console, query)] == expected


def test_unknown_kind_is_invalid(client: FlaskClient, admin: dict[str, str]) -> None:
    response = client.get(f"{PATH}?tipo=outros", headers=admin)

    assert response.status_code == 422
    assert [error["field"] for error in (response.json or {})["errors"]] == ["tipo"]


@pytest.mark.parametrize("name", ["=1+1", "+55", "-1", "@x"])
def test_name_that_a_spreadsheet_would_run_is_prefixed(
    console: FlaskClient, session: Session, name: str
) -> None:
    add(session, name)

    assert [row["Nome completo"] for row in download(console)] == [f"'{name}"]


def test_file_can_be_imported_again(console: FlaskClient, alice: Mentorado) -> None:
    mentees = read_list(console.get(PATH).get_data(as_text=True).removeprefix("\ufeff"))

    [line] = mentees.lines
    assert (line.name, line.email, line.faults) == ("Alice Prado", alice.email, ())
    assert mentees.columns.ignored == ("Número", "Pessoa", "Turma", "Ativo", "Criado em")


def test_list_of_the_console_offers_the_file_of_its_filter(console: FlaskClient) -> None:
    page = html.unescape(console.get("/admin/mentorados?tipo=ativos&q=ana").get_data(as_text=True))

    assert f'href="{PATH}?q=ana&tipo=ativos" download' in page
