"""The work list of a month in the console, as JSON and as CSV."""

import csv
import html
import io
import re
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from models import Feedback, Mentorado, MetricaMensal, User
from models.people import Turma
from tests.support.html_page import SAME_ORIGIN
from tests.support.types import Browser
from tests.support.users import ALICE, NOW

API = "/api/admin/months/2026/2"
FORM: dict[str, Any] = {
    "headers": SAME_ORIGIN,
    "content_type": "application/x-www-form-urlencoded",
}
TEXTS = {"analise_mes": "a", "foco_proximo_mes": "b", "sugestao_mentor": "c"}


@pytest.fixture
def mentees(session: Session) -> dict[str, int]:
    """Ana has reported, Élida has reported and has feedback, Zoé has never signed in."""
    user = User(clerk_id="user_ana", last_signed_in=NOW - timedelta(days=2))
    session.add(user)
    session.flush()  # the profile needs the id
    profiles = [
        Mentorado(
            nome_completo="Ana Lima", email="ana@example.com", user_id=user.id, turma=Turma.NEON
        ),
        Mentorado(nome_completo="Élida Melo", email="elida@example.com", turma=Turma.NEON),
        Mentorado(nome_completo="Zoé Prado", turma=Turma.NEON),
    ]
    session.add_all(profiles)
    session.flush()  # the months need the ids
    ids = {profile.nome_completo.split()[0]: profile.id for profile in profiles}
    for name in ("Ana", "Élida"):
        session.add(MetricaMensal(mentorado_id=ids[name], ano=2026, mes=2, faturamento=16_000))
    session.add(Feedback(mentorado_id=ids["Élida"], ano=2026, mes=2, **TEXTS))
    session.commit()
    return ids


def page_of(client: FlaskClient, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200, path
    return html.unescape(response.get_data(as_text=True))


def rows_of(page: str) -> list[str]:
    """The names in the rows of the table."""
    return re.findall(r'<th scope="row"><a [^>]*>([^<]+)</a>', page)


@pytest.mark.usefixtures("mentees")
def test_month_shows_who_has_reported_and_what_is_missing(console: FlaskClient) -> None:
    page = page_of(console, "/admin/meses/2026/2")

    assert "<h1>Fevereiro de 2026</h1>" in page
    assert rows_of(page) == ["Ana Lima", "Élida Melo", "Zoé Prado"]
    assert re.findall(r">([^<]+) <strong>(\d+)</strong>", page) == [
        ("Todos", "3"),
        ("Sem métricas", "1"),
        ("Sem feedback", "2"),
        ("Sem acesso", "2"),
        ("Abaixo de 30", "0"),
    ]


@pytest.mark.usefixtures("mentees")
@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("Sem métricas", ["Zoé Prado"]),
        ("Sem feedback", ["Ana Lima", "Zoé Prado"]),
        ("Último acesso", ["Élida Melo", "Zoé Prado", "Ana Lima"]),
        ("Pontos", ["Ana Lima", "Élida Melo", "Zoé Prado"]),
    ],
)
def test_filters_and_orders_are_links(console: FlaskClient, link: str, expected: list[str]) -> None:
    page = page_of(console, "/admin/meses/2026/2")
    [url] = re.findall(rf'<a href="([^"]+)"[^>]*>{link}', page)

    assert rows_of(page_of(console, url)) == expected


@pytest.mark.usefixtures("mentees")
def test_home_of_the_console_is_the_work_list(console: FlaskClient) -> None:
    assert "Lista de trabalho de" in page_of(console, "/admin")


def test_work_list_leads_to_the_first_feedback_to_write(
    console: FlaskClient, mentees: dict[str, int], session: Session
) -> None:
    path = "/admin/meses/2026/2/escrever"
    first = console.get(path).location
    session.add(Feedback(mentorado_id=mentees["Ana"], ano=2026, mes=2, **TEXTS))
    session.commit()

    last = console.get(path).location

    assert first == f"/admin/mentorados/{mentees['Ana']}/feedback/2026/2"
    assert last == "/admin/meses/2026/2"
    assert "Todos que registraram fevereiro de 2026 têm feedback." in page_of(console, last)


@pytest.mark.usefixtures("mentees")
def test_addresses_of_a_filter_can_be_copied(console: FlaskClient) -> None:
    all_mentees = page_of(console, "/admin/meses/2026/2/emails")
    no_mentee = page_of(console, "/admin/meses/2026/2/emails?filter=sem_metricas")

    assert ">ana@example.com; elida@example.com</textarea>" in all_mentees
    assert "Um mentorado não tem e-mail." in all_mentees
    assert "></textarea>" in no_mentee


@pytest.mark.parametrize(
    "path", ["/admin/meses/2026/13", "/admin/meses/2999/1", "/admin/meses/2026/2?sort=x"]
)
def test_unknown_month_or_order_is_refused(console: FlaskClient, path: str) -> None:
    assert console.get(path).status_code == 422


@pytest.mark.usefixtures("mentees")
def test_api_lists_each_active_mentee(
    client: FlaskClient, admin: dict[str, str], mentees: dict[str, int]
) -> None:
    listed = client.get(API, headers=admin).json or {}

    assert listed["next_cursor"] is None
    assert [item["nome_completo"] for item in listed["items"]] == [
        "Ana Lima",
        "Élida Melo",
        "Zoé Prado",
    ]
    assert listed["items"][0] == {
        "id": mentees["Ana"],
        "user_id": listed["items"][0]["user_id"],
        "nome_completo": "Ana Lima",
        "email": "ana@example.com",
        "has_metrics": True,
        "score": 40,
        "change": None,
        "has_feedback": False,
        "last_visit": "2026-03-08T12:00:00Z",
    }


@pytest.mark.usefixtures("mentees")
@pytest.mark.parametrize("sort", ["nome", "pontos", "acesso"])
def test_api_pages_continue_at_the_cursor(
    client: FlaskClient, admin: dict[str, str], sort: str
) -> None:
    at_once = (client.get(f"{API}?sort={sort}", headers=admin).json or {})["items"]
    items: list[object] = []
    cursor: str | None = ""

    while cursor is not None:
        query = {"sort": sort, "limit": "1", "cursor": cursor}
        page = client.get(API, headers=admin, query_string=query).json or {}
        items += page["items"]
        cursor = page["next_cursor"]

    assert items == at_once


@pytest.mark.parametrize("cursor", ["x", "5", "5:x", "1:1:1", "-1:2", "9" * 30])
def test_invalid_cursor_is_refused(client: FlaskClient, admin: dict[str, str], cursor: str) -> None:
    response = client.get(f"{API}?sort=pontos&cursor={cursor}", headers=admin)

    assert (response.status_code, (response.json or {})["errors"][0]["field"]) == (422, "cursor")


@pytest.mark.usefixtures("mentees")
def test_month_is_downloaded_as_csv(client: FlaskClient, admin: dict[str, str]) -> None:
    response = client.get("/api/admin/months.csv?mes=2026-02&filter=sem_metricas", headers=admin)

    lines = list(csv.reader(io.StringIO(response.get_data(as_text=True)), delimiter=";"))
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert lines[0][0] == "\ufeffNúmero"
    assert [line[1:5] for line in lines[1:]] == [["Zoé Prado", "", "não", ""]]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("mes=2026", "Informe um mês como 2026-03."),
        ("mes=2026-1", "Informe um mês como 2026-03."),
        ("mes=26-01", "Informe um mês como 2026-03."),
        ("mes=２０２６-０１", "Informe um mês como 2026-03."),
        ("mes=2026-01&mes=2026-02", "Informe um mês como 2026-03."),
        ("mes=2026-13", "Informe um mês de 1 a 12."),
        ("mes=0000-01", "Informe um ano a partir de 2000."),
        ("mes=9999-12", "Este mês ainda não começou."),
    ],
)
@pytest.mark.usefixtures("alice")
def test_page_form_and_api_refuse_the_same_months(
    client: FlaskClient,
    admin: dict[str, str],
    console: FlaskClient,
    browser_of: Browser,
    query: str,
    message: str,
) -> None:
    page = browser_of(ALICE).get(f"/dashboard?{query}")
    form = console.post("/admin/metas", data=f"meta_leads=5&{query}", **FORM)
    api = client.get(f"/api/admin/months.csv?{query}", headers=admin)

    assert [page.status_code, form.status_code] == [422, 422]
    assert message.rstrip(".") in html.unescape(page.get_data(as_text=True))
    assert message in html.unescape(form.get_data(as_text=True))
    assert (api.json or {})["errors"] == [{"field": "mes", "message": message}]


@pytest.mark.usefixtures("alice")
def test_page_form_and_api_accept_blanks_around_a_month(
    client: FlaskClient, admin: dict[str, str], console: FlaskClient, browser_of: Browser
) -> None:
    page = browser_of(ALICE).get("/dashboard?mes=+2026-01+")
    form = console.post("/admin/metas", data="meta_leads=5&mes=+2026-01+", **FORM)
    api = client.get("/api/admin/months.csv?mes=+2026-01+", headers=admin)

    assert [each.status_code for each in (page, form, api)] == [200, 200, 200]
