"""The form of a month: displayed values, saved values, and unchanged fields."""

import html
import re
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Mentorado, MetricaMensal
from models.people import FIGURES
from tests.support.html_page import SAME_ORIGIN, Page, open_page, submit
from tests.support.types import Browser
from tests.support.users import ALICE, BOB, NOW
from web.services import EXTENSION, Services

MARCH = "/metricas/2026/3"
AMOUNT = "Digite o valor em reais, por exemplo 4.800."
COUNT = "Digite um número inteiro, por exemplo 25. Se não teve nenhum, digite 0."
BLANK = dict.fromkeys((*FIGURES, "observacoes"), "")
INPUT = re.compile(r'<input (?:type="hidden" |id="[a-z_]+" )name="([a-z_]+)"[^>]* value="([^"]*)"')


@pytest.fixture(autouse=True)
def in_march(app: Flask, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the date to the tenth of March 2026."""
    monkeypatch.setitem(app.extensions, EXTENSION, replace(services, now=lambda: NOW))


@pytest.fixture
def browser(alice: Mentorado, session: Session, browser_of: Browser) -> FlaskClient:
    """Alice's browser; she has reported February and March."""
    for mes, revenue in ((2, 12_900), (3, 15_000)):
        session.add(
            MetricaMensal(
                mentorado_id=alice.id, ano=2026, mes=mes, faturamento=revenue, leads=mes * 10
            )
        )
    session.commit()
    return browser_of(ALICE)


def page_of(client: FlaskClient, path: str = MARCH) -> str:
    return html.unescape(client.get(path).get_data(as_text=True))


def inputs_of(client: FlaskClient) -> dict[str, str]:
    """The values that a browser sends for an untouched form."""
    return {**BLANK, **dict(INPUT.findall(page_of(client)))}


def march_of(session: Session) -> MetricaMensal:
    session.expire_all()
    return session.scalars(select(MetricaMensal).where(MetricaMensal.mes == 3)).one()


def test_form_shows_the_saved_values_and_the_previous_month(browser: FlaskClient) -> None:
    page = page_of(browser)

    assert 'value="15.000"' in page
    assert "Fevereiro de 2026: R$\u00a012.900" in page
    assert "Fevereiro de 2026: 20" in page


def test_form_of_a_new_month_is_blank(browser: FlaskClient) -> None:
    page = page_of(browser, "/metricas/2026/1")

    assert 'value="0"' not in page
    assert "Dezembro de 2025: sem registro" in page


def test_money_of_the_previous_month_is_formatted_as_money(browser: FlaskClient) -> None:
    assert page_of(browser).count("Fevereiro de 2026: R$") == 2


def test_form_shows_no_values_of_another_year(browser: FlaskClient) -> None:
    assert 'value="15.000"' not in page_of(browser, "/metricas/2025/3")


def test_form_shows_no_values_of_another_user(browser: FlaskClient, browser_of: Browser) -> None:
    assert 'value="15.000"' not in page_of(browser_of(BOB))


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("faturamento", "Faturamento (R$)"),
        ("lucro", "Lucro (R$)"),
        ("leads", "Leads"),
        ("procedimentos", "Procedimentos"),
        ("posts_feed", "Posts no feed"),
        ("stories", "Stories"),
        ("observacoes", "Observações"),
    ],
)
def test_form_has_every_field_with_its_label(browser: FlaskClient, name: str, label: str) -> None:
    page = page_of(browser)

    assert f'<label for="{name}">{label}</label>' in page
    assert f'id="{name}" name="{name}"' in page


def test_form_links_to_the_next_and_previous_month_but_not_to_the_future(
    browser: FlaskClient,
) -> None:
    links = ["/metricas/2026/1", "/metricas/2026/3"]

    assert all(f'href="{link}"' in page_of(browser, "/metricas/2026/2") for link in links)
    assert 'href="/metricas/2026/4"' not in page_of(browser)


def test_saved_month_is_announced_once_on_the_dashboard(browser: FlaskClient) -> None:
    form = {**inputs_of(browser), "faturamento": "R$ 16.500,00", "observacoes": "Bom\r\nmês"}

    response = browser.post(MARCH, data=form, headers=SAME_ORIGIN)
    first, second = page_of(browser, "/dashboard"), page_of(browser, "/dashboard")

    assert (response.status_code, response.location) == (303, "/dashboard")
    assert "R$\u00a016.500" in first
    assert ["Métricas de março de 2026 salvas!" in page for page in (first, second)] == [
        True,
        False,
    ]


def test_message_names_the_month_that_was_saved(browser: FlaskClient) -> None:
    browser.post("/metricas/2026/1", data={**BLANK, "leads": "5"}, headers=SAME_ORIGIN)

    assert "Métricas de janeiro de 2026 salvas!" in page_of(browser, "/dashboard")


def test_every_figure_may_have_a_thousands_separator(browser_of: Browser, session: Session) -> None:
    typed = {**BLANK, **dict.fromkeys(FIGURES, "1.000")}

    browser_of(BOB).post(MARCH, data=typed, headers=SAME_ORIGIN)

    saved = march_of(session)
    assert {getattr(saved, field) for field in FIGURES} == {1_000}


def test_untouched_form_writes_nothing(browser: FlaskClient, session: Session) -> None:
    before = march_of(session).updated_at

    response = browser.post(MARCH, data=inputs_of(browser), headers=SAME_ORIGIN)

    assert (response.status_code, march_of(session).updated_at) == (303, before)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_untouched_note_of_several_lines_is_no_change(
    browser: FlaskClient, session: Session, newline: str
) -> None:
    march_of(session).observacoes = "Bom\nmês"
    session.commit()
    before = march_of(session).updated_at
    note = {"observacoes": "Bom\r\nmês", "visto_observacoes": f"Bom{newline}mês"}

    browser.post(MARCH, data={**inputs_of(browser), **note}, headers=SAME_ORIGIN)

    assert march_of(session).updated_at == before


def test_field_saved_by_a_concurrent_form_is_kept(browser: FlaskClient, session: Session) -> None:
    untouched = inputs_of(browser)
    browser.post(MARCH, data={**untouched, "leads": "77"}, headers=SAME_ORIGIN)

    browser.post(MARCH, data={**untouched, "lucro": "6.000"}, headers=SAME_ORIGIN)

    march = march_of(session)
    assert (march.leads, march.lucro, march.faturamento) == (77, 6_000, 15_000)


def test_emptied_figure_is_refused(browser: FlaskClient, session: Session) -> None:
    response = browser.post(MARCH, data={**inputs_of(browser), "leads": ""}, headers=SAME_ORIGIN)

    assert response.status_code == 422
    assert "Se não teve nenhum, digite 0." in response.get_data(as_text=True)
    assert march_of(session).leads == 30


def test_emptied_note_is_removed(browser: FlaskClient, session: Session) -> None:
    browser.post(MARCH, data={"observacoes": "Bom mês"}, headers=SAME_ORIGIN)
    assert march_of(session).observacoes == "Bom mês"

    form = {**inputs_of(browser), "observacoes": ""}
    browser.post(MARCH, data=form, headers=SAME_ORIGIN)

    assert march_of(session).observacoes is None


def test_new_month_can_have_one_field(browser_of: Browser) -> None:
    bob = browser_of(BOB)

    response = bob.post("/metricas/2026/1", data={**BLANK, "lucro": "0"}, headers=SAME_ORIGIN)

    assert response.status_code == 303
    assert "jan. 2026" in page_of(bob, "/dashboard")


def test_blank_fields_are_ignored(browser_of: Browser, session: Session) -> None:
    typed = {**dict.fromkeys(BLANK, " "), "lucro": "5"}

    response = browser_of(BOB).post(MARCH, data=typed, headers=SAME_ORIGIN)

    assert (response.status_code, march_of(session).lucro) == (303, 5)


def test_form_with_blank_fields_only_is_refused(browser_of: Browser) -> None:
    response = browser_of(BOB).post(MARCH, data=dict.fromkeys(BLANK, " \r\n "), headers=SAME_ORIGIN)

    assert response.status_code == 422
    assert "Informe ao menos um campo." in response.text


def test_blank_form_creates_no_month(browser_of: Browser, session: Session) -> None:
    response = browser_of(BOB).post(MARCH, data=BLANK, headers=SAME_ORIGIN)

    assert response.status_code == 422
    assert "Informe ao menos um campo." in response.get_data(as_text=True)
    assert session.scalars(select(MetricaMensal)).all() == []


@pytest.mark.parametrize(
    ("typed", "saved"),
    [
        ("-1.234,00", -1_234),
        ("\u22121.234", -1_234),
        ("R$ -500", -500),
        ("-R$ 500", -500),
        ("-2.147.483.648", -2_147_483_648),
    ],
)
def test_loss_is_saved_and_shown_as_loss(
    browser: FlaskClient, session: Session, typed: str, saved: int
) -> None:
    response = browser.post(MARCH, data={**inputs_of(browser), "lucro": typed}, headers=SAME_ORIGIN)
    loss = f"{-saved:,}".replace(",", ".")

    assert (response.status_code, march_of(session).lucro) == (303, saved)
    assert f'value="-{loss}"' in page_of(browser)
    dashboard = page_of(browser, "/dashboard")
    assert f"<td>-R$\u00a0{loss}</td>" in dashboard
    assert f"prejuízo R$\u00a0{loss}" in dashboard


def test_loss_of_the_previous_month_is_formatted_as_money(browser: FlaskClient) -> None:
    browser.post("/metricas/2026/2", data={"lucro": "-1.500"}, headers=SAME_ORIGIN)

    assert "Fevereiro de 2026: -R$\u00a01.500" in page_of(browser)


def test_untouched_loss_is_no_change(browser: FlaskClient, session: Session) -> None:
    browser.post(MARCH, data={"lucro": "-1.500"}, headers=SAME_ORIGIN)
    before = march_of(session).updated_at

    browser.post(MARCH, data=inputs_of(browser), headers=SAME_ORIGIN)

    assert march_of(session).updated_at == before


@pytest.mark.parametrize("field", [name for name in FIGURES if name != "lucro"])
def test_every_figure_except_the_profit_must_not_be_negative(
    browser: FlaskClient, session: Session, field: str
) -> None:
    before = getattr(march_of(session), field)

    response = browser.post(MARCH, data={**inputs_of(browser), field: "-R$ 1"}, headers=SAME_ORIGIN)

    assert response.status_code == 422
    assert "não pode ser negativo" in Page(response.text).by_id(f"{field}-erro").text
    assert getattr(march_of(session), field) == before


def test_profit_can_be_typed_with_a_minus_sign_on_a_phone(browser: FlaskClient) -> None:
    inputs = re.findall(r'<input id="[a-z_]+" [^>]*>', page_of(browser))

    # The numeric keyboard of iPhones has no minus sign.
    assert [i.split('"')[1] for i in inputs if "inputmode" not in i] == ["lucro"]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("abc", f"{AMOUNT} Um prejuízo é -1.500."),
        ("-2.147.483.649", "Digite um valor a partir de -2.147.483.648."),
        ("2.147.483.648", "Digite um valor até 2.147.483.647."),
        ("2.147.483.647,50", "Digite um valor até 2.147.483.647."),
        ("<b>1</b>", f"{AMOUNT} Um prejuízo é -1.500."),
    ],
)
def test_unreadable_value_stays_in_its_field_with_a_message(
    browser: FlaskClient, session: Session, typed: str, message: str
) -> None:
    form = {**inputs_of(browser), "lucro": typed, "leads": "31"}

    response = browser.post(MARCH, data=form, headers=SAME_ORIGIN)
    page = response.get_data(as_text=True)

    assert response.status_code == 422
    assert f'id="lucro-erro">{message}' in page
    assert f'value="{html.escape(typed)}"' in page
    assert march_of(session).leads == 30


def test_error_summary_links_to_each_field(browser: FlaskClient) -> None:
    form = {**inputs_of(browser), "lucro": "abc", "leads": "x"}

    page = browser.post(MARCH, data=form, headers=SAME_ORIGIN).text

    assert f'<a href="#lucro">Lucro (R$)</a>: {AMOUNT}' in page
    assert f'<a href="#leads">Leads</a>: {COUNT}' in page


def test_corrected_form_saves_the_other_changes_too(browser: FlaskClient, session: Session) -> None:
    form = {**inputs_of(browser), "lucro": "x", "leads": "31"}
    refused = browser.post(MARCH, data=form, headers=SAME_ORIGIN).get_data(as_text=True)
    resubmitted = {**BLANK, **dict(INPUT.findall(html.unescape(refused)))}

    browser.post(MARCH, data={**resubmitted, "lucro": "1"}, headers=SAME_ORIGIN)

    assert (march_of(session).leads, march_of(session).lucro) == (31, 1)


def test_form_opened_by_another_user_is_refused(
    browser: FlaskClient, browser_of: Browser, session: Session
) -> None:
    form = {**inputs_of(browser), "lucro": "9"}

    response = browser_of(BOB).post("/metricas/2026/1", data=form, headers=SAME_ORIGIN)

    assert response.status_code == 409
    assert "foi aberto por outra conta" in response.get_data(as_text=True)
    assert {m.mes for m in session.scalars(select(MetricaMensal))} == {2, 3}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/metricas/2026/4", "Este mês ainda não começou"),
        ("/metricas/2026/13", "Informe um mês de 1 a 12"),
        ("/metricas/1999/1", "Informe um ano a partir de 2000"),
    ],
)
def test_page_of_an_impossible_month_explains_the_reason(
    browser: FlaskClient, method: str, path: str, message: str
) -> None:
    response = browser.open(path, method=method, headers=SAME_ORIGIN)

    assert response.status_code == 422
    assert Page(response.text).headings == [message]


def test_form_from_another_site_is_refused(browser: FlaskClient, session: Session) -> None:
    response = browser.post(MARCH, data={"lucro": "9"}, headers={"Origin": "https://evil.example"})

    assert (response.status_code, march_of(session).lucro) == (403, 0)


def test_first_possible_month_has_no_previous_link(browser: FlaskClient) -> None:
    assert 'rel="prev"' not in page_of(browser, "/metricas/2000/1")


def test_longest_note_can_be_changed_again(browser: FlaskClient, session: Session) -> None:
    note = "—" * 5_000
    browser.post(MARCH, data={"observacoes": note}, headers=SAME_ORIGIN)

    form = {"observacoes": f"x{note[1:]}", "visto_observacoes": note}
    response = browser.post(MARCH, data=form, headers=SAME_ORIGIN)

    assert (response.status_code, march_of(session).observacoes) == (303, f"x{note[1:]}")


def test_form_after_a_deleted_profile_belongs_to_the_new_one(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    browser.get("/dashboard")
    old_id = alice.id
    session.delete(alice)
    session.commit()

    [owner] = re.findall(r'name="mentorado" value="(\d+)"', page_of(browser))

    assert owner != str(old_id)


@pytest.mark.parametrize(
    ("field", "typed", "saved", "shown"),
    [
        ("faturamento", "12.345,67", 12_346, "Faturamento: R$\u00a012.346 (arredondado)"),
        ("faturamento", "R$ 0,49", 0, "Faturamento: R$\u00a00 (arredondado)"),
        ("lucro", "-1.234,50", -1_235, "Lucro: -R$\u00a01.235 (arredondado)"),
        ("lucro", "1.234,00", 1_234, "Lucro: R$\u00a01.234."),
    ],
)
def test_cents_of_an_amount_are_rounded_with_a_note(
    browser: FlaskClient, session: Session, field: str, typed: str, saved: int, shown: str
) -> None:
    page = submit(browser, MARCH, **{**inputs_of(browser), field: typed})

    assert getattr(march_of(session), field) == saved
    assert f"Métricas de março de 2026 salvas! {shown}" in page.text


def test_fraction_of_a_count_is_refused(browser: FlaskClient, session: Session) -> None:
    form = {**inputs_of(browser), "procedimentos": "8,5"}

    response = browser.post(MARCH, data=form, headers=SAME_ORIGIN)

    assert (response.status_code, march_of(session).procedimentos) == (422, 0)
    assert Page(response.text).by_id("procedimentos-erro").text == COUNT


def test_errors_have_the_order_of_the_form(browser: FlaskClient) -> None:
    form = {**inputs_of(browser), **dict.fromkeys(FIGURES, "x")}

    page = Page(browser.post(MARCH, data=form, headers=SAME_ORIGIN).text)

    fields = ["faturamento", "lucro", "leads", "procedimentos", "posts_feed", "stories"]
    assert [a.attributes["href"] for a in page.all("a") if "#" in a.attributes["href"]] == [
        "#conteudo",
        *(f"#{name}" for name in fields),
    ]
    assert all(page.by_id(name).attributes["aria-invalid"] == "true" for name in fields)


def test_refused_form_says_so_in_its_title_and_focuses_the_summary(browser: FlaskClient) -> None:
    form = {**inputs_of(browser), "leads": "x"}

    page = Page(browser.post(MARCH, data=form, headers=SAME_ORIGIN).text)

    [summary] = [e for e in page.elements if e.attributes.get("role") == "alert"]
    assert page.title.startswith("Erro: Métricas de março de 2026")
    assert ("autofocus" in summary.attributes, summary.attributes["tabindex"]) == (True, "-1")


def test_message_names_what_has_changed(browser: FlaskClient) -> None:
    form = {**inputs_of(browser), "leads": "31", "observacoes": "Bom mês"}

    page = submit(browser, MARCH, **form)

    assert "Métricas de março de 2026 salvas! Leads: 31; Observações." in page.text


def test_saving_without_a_change_says_so(browser: FlaskClient) -> None:
    page = submit(browser, MARCH, **inputs_of(browser))

    assert "Nada mudou: as métricas de março de 2026 já estavam salvas assim." in page.text


def test_saving_an_earlier_month_shows_that_month(browser: FlaskClient) -> None:
    response = browser.post("/metricas/2026/2", data={"leads": "5"}, headers=SAME_ORIGIN)

    assert response.location == "/dashboard?mes=2026-02"


def test_figures_that_were_not_given_are_blank_in_the_form(
    browser: FlaskClient, session: Session
) -> None:
    browser.post("/metricas/2026/1", data={"lucro": "0"}, headers=SAME_ORIGIN)

    page = open_page(browser, "/metricas/2026/1")

    values = {name: page.by_id(name).attributes["value"] for name in FIGURES}
    assert values == {**dict.fromkeys(FIGURES, ""), "lucro": "0"}


def test_line_breaks_at_the_start_of_a_note_are_kept_by_the_form(browser: FlaskClient) -> None:
    form = {**inputs_of(browser), "observacoes": "\n\nBom", "leads": "x"}

    page = browser.post(MARCH, data=form, headers=SAME_ORIGIN).text

    # Browsers drop the first line break of a textarea.
    assert ">\n\n\nBom</textarea>" in page
