"""The form of a month: what it shows, what it takes, and what it leaves alone."""

import html
import re
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from dashboard.months import FIGURES
from models import Mentorado, MetricaMensal
from tests.support.types import Browser
from tests.support.users import ALICE, BOB, NOW
from web.services import EXTENSION, Services

MARCH = "/metricas/2026/3"
OURS = {"Origin": "http://localhost"}
BLANK = dict.fromkeys((*FIGURES, "observacoes"), "")
INPUT = re.compile(r'<input (?:type="hidden" |id="[a-z_]+" )name="([a-z_]+)"[^>]* value="([^"]*)"')


@pytest.fixture(autouse=True)
def in_march(app: Flask, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the tenth of March 2026."""
    monkeypatch.setitem(app.extensions, EXTENSION, replace(services, now=lambda: NOW))


@pytest.fixture
def browser(alice: Mentorado, session: Session, browser_of: Browser) -> FlaskClient:
    """Alice's, who has reported March and February."""
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
    """What a browser would send if nobody touched the form."""
    return {**BLANK, **dict(INPUT.findall(page_of(client)))}


def march_of(session: Session) -> MetricaMensal:
    session.expire_all()
    return session.scalars(select(MetricaMensal).where(MetricaMensal.mes == 3)).one()


def test_form_shows_what_is_saved_and_the_month_before(browser: FlaskClient) -> None:
    page = page_of(browser)

    assert 'value="15.000"' in page
    assert "Fevereiro de 2026: R$\u00a012.900" in page
    assert "Fevereiro de 2026: 20" in page


def test_form_of_a_new_month_is_blank(browser: FlaskClient) -> None:
    page = page_of(browser, "/metricas/2026/1")

    assert 'value="0"' not in page
    assert "Dezembro de 2025: sem registro" in page


def test_money_of_the_month_before_is_written_as_money(browser: FlaskClient) -> None:
    assert page_of(browser).count("Fevereiro de 2026: R$") == 2


def test_form_shows_nothing_of_another_year(browser: FlaskClient) -> None:
    assert 'value="15.000"' not in page_of(browser, "/metricas/2025/3")


def test_form_shows_nothing_of_another_person(browser: FlaskClient, browser_of: Browser) -> None:
    assert 'value="15.000"' not in page_of(browser_of(BOB))


@pytest.mark.parametrize(
    ("name", "label"),
    [
        *(("faturamento", "Faturamento (R$)"), ("lucro", "Lucro (R$)"), ("leads", "Leads")),
        *(("procedimentos", "Procedimentos"), ("posts_feed", "Posts no feed")),
        *(("stories", "Stories"), ("observacoes", "Observações")),
    ],
)
def test_every_field_is_there_with_its_label(browser: FlaskClient, name: str, label: str) -> None:
    page = page_of(browser)

    assert f'<label for="{name}">{label}</label>' in page
    assert f'id="{name}" name="{name}"' in page


def test_months_lead_to_their_neighbours_but_not_into_the_future(browser: FlaskClient) -> None:
    links = ["/metricas/2026/1", "/metricas/2026/3"]

    assert all(f'href="{link}"' in page_of(browser, "/metricas/2026/2") for link in links)
    assert 'href="/metricas/2026/4"' not in page_of(browser)


def test_what_is_typed_is_saved_and_the_dashboard_says_so_once(browser: FlaskClient) -> None:
    sent = {**inputs_of(browser), "faturamento": "R$ 16.500,00", "observacoes": "Bom\r\nmês"}

    answer = browser.post(MARCH, data=sent, headers=OURS)
    first, second = page_of(browser, "/dashboard"), page_of(browser, "/dashboard")

    assert (answer.status_code, answer.location) == (303, "/dashboard")
    assert "R$\u00a016.500" in first
    assert ["Métricas de março de 2026 salvas!" in page for page in (first, second)] == [
        True,
        False,
    ]


def test_message_names_the_month_that_was_saved(browser: FlaskClient) -> None:
    browser.post("/metricas/2026/1", data={**BLANK, "leads": "5"}, headers=OURS)

    assert "Métricas de janeiro de 2026 salvas!" in page_of(browser, "/dashboard")


def test_every_figure_may_be_typed_with_a_point(browser_of: Browser, session: Session) -> None:
    typed = {**BLANK, **dict.fromkeys(FIGURES, "1.000")}

    browser_of(BOB).post(MARCH, data=typed, headers=OURS)

    saved = march_of(session)
    assert {getattr(saved, field) for field in FIGURES} == {1_000}


def test_form_that_nobody_touched_writes_nothing(browser: FlaskClient, session: Session) -> None:
    before = march_of(session).updated_at

    answer = browser.post(MARCH, data=inputs_of(browser), headers=OURS)

    assert (answer.status_code, march_of(session).updated_at) == (303, before)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_note_of_several_lines_that_nobody_touched_is_no_change(
    browser: FlaskClient, session: Session, newline: str
) -> None:
    march_of(session).observacoes = "Bom\nmês"
    session.commit()
    before = march_of(session).updated_at
    note = {"observacoes": "Bom\r\nmês", "visto_observacoes": f"Bom{newline}mês"}

    browser.post(MARCH, data={**inputs_of(browser), **note}, headers=OURS)

    assert march_of(session).updated_at == before


def test_field_that_somebody_else_has_saved_meanwhile_is_kept(
    browser: FlaskClient, session: Session
) -> None:
    opened = inputs_of(browser)
    browser.post(MARCH, data={**opened, "leads": "77"}, headers=OURS)

    browser.post(MARCH, data={**opened, "lucro": "6.000"}, headers=OURS)

    march = march_of(session)
    assert (march.leads, march.lucro, march.faturamento) == (77, 6_000, 15_000)


def test_field_that_is_emptied_is_asked_for(browser: FlaskClient, session: Session) -> None:
    answer = browser.post(MARCH, data={**inputs_of(browser), "leads": ""}, headers=OURS)

    assert answer.status_code == 422
    assert "Informe um número inteiro" in answer.get_data(as_text=True)
    assert march_of(session).leads == 30


def test_note_that_is_emptied_is_gone(browser: FlaskClient, session: Session) -> None:
    browser.post(MARCH, data={"observacoes": "Bom mês"}, headers=OURS)
    assert march_of(session).observacoes == "Bom mês"

    sent = {**inputs_of(browser), "observacoes": ""}
    browser.post(MARCH, data=sent, headers=OURS)

    assert march_of(session).observacoes is None


def test_new_month_begins_with_the_fields_that_are_known(browser_of: Browser) -> None:
    bob = browser_of(BOB)

    answer = bob.post("/metricas/2026/1", data={**BLANK, "lucro": "0"}, headers=OURS)

    assert answer.status_code == 303
    assert "jan. 2026" in page_of(bob, "/dashboard")


def test_fields_with_blanks_alone_are_left_alone(browser_of: Browser, session: Session) -> None:
    typed = {**dict.fromkeys(BLANK, " "), "lucro": "5"}

    answer = browser_of(BOB).post(MARCH, data=typed, headers=OURS)

    assert (answer.status_code, march_of(session).lucro) == (303, 5)


def test_form_with_blanks_alone_is_blank(browser_of: Browser) -> None:
    answer = browser_of(BOB).post(MARCH, data=dict.fromkeys(BLANK, " \r\n "), headers=OURS)

    assert answer.status_code == 422
    assert "Informe ao menos um campo." in answer.text


def test_blank_form_fabricates_no_month(browser_of: Browser, session: Session) -> None:
    answer = browser_of(BOB).post(MARCH, data=BLANK, headers=OURS)

    assert answer.status_code == 422
    assert "Informe ao menos um campo." in answer.get_data(as_text=True)
    assert session.scalars(select(MetricaMensal)).all() == []


@pytest.mark.parametrize(
    ("typed", "saved"),
    [
        *(("-1.234,00", -1_234), ("\u22121.234", -1_234), ("R$ -500", -500), ("-R$ 500", -500)),
        ("-2.147.483.648", -2_147_483_648),
    ],
)
def test_loss_is_saved_and_shown_as_one(
    browser: FlaskClient, session: Session, typed: str, saved: int
) -> None:
    answer = browser.post(MARCH, data={**inputs_of(browser), "lucro": typed}, headers=OURS)
    loss = f"{-saved:,}".replace(",", ".")

    assert (answer.status_code, march_of(session).lucro) == (303, saved)
    assert f'value="-{loss}"' in page_of(browser)
    dashboard = page_of(browser, "/dashboard")
    assert f"<td>-R$\u00a0{loss}</td>" in dashboard
    assert f"prejuízo R$\u00a0{loss}" in dashboard


def test_loss_of_the_month_before_is_written_as_money(browser: FlaskClient) -> None:
    browser.post("/metricas/2026/2", data={"lucro": "-1.500"}, headers=OURS)

    assert "Fevereiro de 2026: -R$\u00a01.500" in page_of(browser)


def test_saved_loss_that_is_left_alone_is_no_change(browser: FlaskClient, session: Session) -> None:
    browser.post(MARCH, data={"lucro": "-1.500"}, headers=OURS)
    before = march_of(session).updated_at

    browser.post(MARCH, data=inputs_of(browser), headers=OURS)

    assert march_of(session).updated_at == before


@pytest.mark.parametrize("field", [name for name in FIGURES if name != "lucro"])
def test_every_figure_but_the_profit_is_zero_or_more(
    browser: FlaskClient, session: Session, field: str
) -> None:
    before = getattr(march_of(session), field)

    answer = browser.post(MARCH, data={**inputs_of(browser), field: "-R$ 1"}, headers=OURS)

    assert answer.status_code == 422
    assert f'id="{field}-erro">Informe zero ou um número maior.' in answer.text
    assert getattr(march_of(session), field) == before


def test_profit_can_be_typed_with_a_minus_sign_on_a_phone(browser: FlaskClient) -> None:
    inputs = re.findall(r'<input id="[a-z_]+" [^>]*>', page_of(browser))

    # The numeric keypads of iPhones have no minus sign.
    assert [i.split('"')[1] for i in inputs if "inputmode" not in i] == ["lucro"]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("abc", "Informe um número inteiro, como 12.500."),
        ("12,5", "Informe um valor inteiro, sem centavos."),
        ("-1.234,56", "Informe um valor inteiro, sem centavos."),
        ("-2.147.483.649", "Informe -2.147.483.648 ou um número maior."),
        ("2.147.483.648", "Informe no máximo 2.147.483.647."),
        ("<b>1</b>", "Informe um número inteiro, como 12.500."),
    ],
)
def test_what_cannot_be_read_stays_in_its_field_with_a_message(
    browser: FlaskClient, session: Session, typed: str, message: str
) -> None:
    sent = {**inputs_of(browser), "lucro": typed, "leads": "31"}

    answer = browser.post(MARCH, data=sent, headers=OURS)
    page = answer.get_data(as_text=True)

    assert answer.status_code == 422
    assert f'id="lucro-erro">{message}' in page
    assert f'value="{html.escape(typed)}"' in page
    assert march_of(session).leads == 30


def test_list_of_what_is_wrong_leads_to_each_field(browser: FlaskClient) -> None:
    sent = {**inputs_of(browser), "lucro": "abc", "leads": "x"}

    page = browser.post(MARCH, data=sent, headers=OURS).text

    message = "Informe um número inteiro, como 12.500."
    assert f'<a href="#lucro">Lucro (R$)</a>: {message}' in page
    assert f'<a href="#leads">Leads</a>: {message}' in page


def test_mended_form_saves_what_was_typed_the_first_time_too(
    browser: FlaskClient, session: Session
) -> None:
    sent = {**inputs_of(browser), "lucro": "x", "leads": "31"}
    refused = browser.post(MARCH, data=sent, headers=OURS).get_data(as_text=True)
    again = {**BLANK, **dict(INPUT.findall(html.unescape(refused)))}

    browser.post(MARCH, data={**again, "lucro": "1"}, headers=OURS)

    assert (march_of(session).leads, march_of(session).lucro) == (31, 1)


def test_form_of_whoever_was_signed_in_before_writes_into_no_other_profile(
    browser: FlaskClient, browser_of: Browser, session: Session
) -> None:
    sent = {**inputs_of(browser), "lucro": "9"}

    answer = browser_of(BOB).post("/metricas/2026/1", data=sent, headers=OURS)

    assert answer.status_code == 409
    assert "foi aberto por outra conta" in answer.get_data(as_text=True)
    assert {m.mes for m in session.scalars(select(MetricaMensal))} == {2, 3}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/metricas/2026/4", "Este mês ainda não começou."),
        ("/metricas/2026/13", "Informe um mês de 1 a 12."),
        ("/metricas/1999/1", "Informe um ano a partir de 2000."),
    ],
)
def test_months_that_cannot_be_reported_have_a_page_that_says_why(
    browser: FlaskClient, method: str, path: str, message: str
) -> None:
    answer = browser.open(path, method=method, headers=OURS)

    assert answer.status_code == 422
    assert message in answer.get_data(as_text=True)


def test_form_from_another_site_is_refused(browser: FlaskClient, session: Session) -> None:
    answer = browser.post(MARCH, data={"lucro": "9"}, headers={"Origin": "https://evil.example"})

    assert (answer.status_code, march_of(session).lucro) == (403, 0)


def test_first_month_of_all_leads_no_further_back(browser: FlaskClient) -> None:
    assert 'rel="prev"' not in page_of(browser, "/metricas/2000/1")


def test_longest_note_can_be_changed_again(browser: FlaskClient, session: Session) -> None:
    note = "—" * 5_000
    browser.post(MARCH, data={"observacoes": note}, headers=OURS)

    sent = {"observacoes": f"x{note[1:]}", "visto_observacoes": note}
    answer = browser.post(MARCH, data=sent, headers=OURS)

    assert (answer.status_code, march_of(session).observacoes) == (303, f"x{note[1:]}")


def test_form_of_a_profile_that_went_away_is_that_of_the_new_one(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    browser.get("/dashboard")
    gone = alice.id
    session.delete(alice)
    session.commit()

    [owner] = re.findall(r'name="mentorado" value="(\d+)"', page_of(browser))

    assert owner != str(gone)
