"""The dashboard of any month: figures, changes, pace, score, feedback, goals and what is due."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dashboard import mentoring
from dashboard.periods import Period
from models import Feedback, Mentorado, MetricaMensal, User
from provisioning.audit import Source
from tests.support.databases import ADMIN_SHUTDOWN, fail_queries_of_months
from tests.support.html_page import Element, Page, open_page, submit
from tests.support.types import Browser, Sign
from tests.support.users import ALICE, BOB, NOW
from web.services import EXTENSION, Services

LONG_AGO = datetime(2025, 1, 5, 12, tzinfo=UTC)
MID_MARCH = datetime(2026, 3, 21, 12, tzinfo=UTC)  # ten days are left
START_OF_MARCH = datetime(2026, 3, 3, 12, tzinfo=UTC)
FIGURES = {"faturamento": 10_000, "lucro": 4_000, "leads": 40, "procedimentos": 8}
SetNow = Callable[[datetime], None]


@pytest.fixture
def set_now(app: Flask, services: Services, monkeypatch: pytest.MonkeyPatch) -> SetNow:
    """Return a function that sets the date of the app."""

    def set_date(now: datetime) -> None:
        monkeypatch.setitem(app.extensions, EXTENSION, replace(services, now=lambda: now))

    return set_date


@pytest.fixture
def browser(
    alice: Mentorado, session: Session, browser_of: Browser, set_now: SetNow
) -> FlaskClient:
    """Alice's browser in the middle of March; she has joined long ago."""
    alice.created_at = LONG_AGO
    session.commit()
    set_now(MID_MARCH)
    return browser_of(ALICE)


def add_month(
    session: Session, alice: Mentorado, mes: int, ano: int = 2026, **values: object
) -> None:
    session.add(MetricaMensal(mentorado_id=alice.id, ano=ano, mes=mes, **{**FIGURES, **values}))
    session.commit()


def add_feedback(session: Session, alice: Mentorado, mes: int, **values: object) -> None:
    texts = {"analise_mes": "Bom mês.", "foco_proximo_mes": "Leads.", "sugestao_mentor": "Siga."}
    session.add(Feedback(mentorado_id=alice.id, ano=2026, mes=mes, **{**texts, **values}))
    session.commit()


def radios_of(page: Page) -> list[Element]:
    """The bars of the chart."""
    return [each for each in page.all("input") if each.attributes["type"] == "radio"]


def test_newest_reported_month_is_shown_without_a_parameter(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_month(session, alice, 1)
    add_month(session, alice, 2, faturamento=12_345)

    page = open_page(browser)

    assert "R$\u00a012.345" in page.by_id("conteudo").text
    assert "Metas de fevereiro de 2026" in page.headings


def test_month_of_the_parameter_is_shown_with_its_own_figures_goals_and_feedback(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_month(session, alice, 1, faturamento=8_000, meta_faturamento=8_000)
    add_month(session, alice, 2, faturamento=12_345)
    add_feedback(session, alice, 1, analise_mes="Janeiro foi bom.")
    add_feedback(session, alice, 2, analise_mes="Fevereiro também.")

    page = open_page(browser, "/dashboard?mes=2026-01")

    assert "Faturamento do mês R$\u00a08.000 janeiro de 2026" in page.text
    assert "R$\u00a08.000 de R$\u00a08.000" in page.text
    assert "Janeiro foi bom." in page.text
    assert "Fevereiro também." not in page.text
    assert "R$\u00a012.345" not in page.text


def test_months_are_linked_to_the_ones_before_and_after(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_month(session, alice, 2)

    page = open_page(browser, "/dashboard?mes=2026-02")

    assert page.link("‹ jan. 2026") == "/dashboard?mes=2026-01"
    assert page.link("mar. 2026 ›") == "/dashboard?mes=2026-03"


def test_running_month_has_no_link_to_the_next_and_is_marked(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_month(session, alice, 3)

    page = open_page(browser)

    assert not page.has_link("abr. 2026 ›")
    assert "Março de 2026 em andamento" in page.text
    assert "pontos, parcial" in page.text


def test_month_without_a_report_offers_to_report_it(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_month(session, alice, 2)

    page = open_page(browser, "/dashboard?mes=2026-01")

    assert "Janeiro de 2026: sem registro" in page.headings
    assert page.link("Registrar janeiro") == "/metricas/2026/1"


def test_month_far_before_the_window_is_shown(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    for mes in range(1, 13):
        add_month(session, alice, mes, ano=2025)
    add_month(session, alice, 1, ano=2024, faturamento=777)

    page = open_page(browser, "/dashboard?mes=2024-01")

    assert "Faturamento do mês R$\u00a0777 janeiro de 2024" in page.text


@pytest.mark.parametrize(
    ("month", "heading"),
    [
        ("2026-04", "Este mês ainda não começou"),
        ("2026-13", "Informe um mês de 1 a 12"),
        ("1999-12", "Informe um ano a partir de 2000"),
        ("março", "Informe um mês como 2026-03"),
        ("2026-1-1", "Informe um mês como 2026-03"),
        ("٢٠٢٦-٠١", "Informe um mês como 2026-03"),
    ],
)
def test_impossible_month_is_refused_with_the_reason(
    browser: FlaskClient, month: str, heading: str
) -> None:
    response = browser.get("/dashboard", query_string={"mes": month})

    assert (response.status_code, Page(response.text).headings) == (422, [heading])


def test_blank_month_is_the_newest(browser: FlaskClient) -> None:
    assert browser.get("/dashboard?mes=").status_code == 200


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ({"faturamento": 10_000}, {"faturamento": 11_800}, "▲ 18% a mais que em janeiro"),
        ({"faturamento": 10_000}, {"faturamento": 9_000}, "▼ 10% a menos que em janeiro"),
        ({"faturamento": 10_000}, {"faturamento": 10_000}, "= igual a janeiro"),
        ({"faturamento": 0}, {"faturamento": 500}, "▲ R$\u00a0500 a mais que em janeiro"),
        ({"faturamento": 1}, {"faturamento": 500}, "▲ R$\u00a0499 a mais que em janeiro"),
        ({"faturamento": 10_000}, {"faturamento": 10_001}, "▲ R$\u00a01 a mais que em janeiro"),
        ({"lucro": -500}, {"lucro": 500}, "▲ R$\u00a01.000 a mais que em janeiro"),
        ({"leads": 41}, {"leads": 40}, "▼ 1\u00a0lead a menos que em janeiro"),
        ({"stories": 0}, {"stories": 9}, "▲ 9\u00a0stories a mais que em janeiro"),
    ],
)
def test_change_against_the_month_before_is_named_with_its_sign(
    browser: FlaskClient,
    alice: Mentorado,
    session: Session,
    before: dict[str, int],
    after: dict[str, int],
    text: str,
) -> None:
    add_month(session, alice, 1, **before)
    add_month(session, alice, 2, **after)

    assert text in open_page(browser).text


def test_first_month_and_month_after_a_gap_have_no_change(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_month(session, alice, 1, ano=2025)
    add_month(session, alice, 2)

    assert "que em" not in open_page(browser).text


@pytest.mark.parametrize(
    ("leads", "text"),
    [
        (50, "50 de 50 · meta batida"),
        (40, "40 de 50 · no ritmo: faltam 10\u00a0leads em 10\u00a0dias"),
        (49, "49 de 50 · no ritmo: falta 1\u00a0lead em 10\u00a0dias"),
        (20, "20 de 50 · faltam 30\u00a0leads em 10\u00a0dias"),
    ],
)
def test_goal_of_the_running_month_says_what_is_missing_and_for_how_long(
    browser: FlaskClient, alice: Mentorado, session: Session, leads: int, text: str
) -> None:
    add_month(session, alice, 3, leads=leads)

    assert text in open_page(browser).text


def test_goal_of_a_closed_month_says_what_was_missing(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_month(session, alice, 2, faturamento=13_600, procedimentos=9)

    page = open_page(browser)

    assert "R$\u00a013.600 de R$\u00a016.000 · faltaram R$\u00a02.400" in page.text
    assert "9 de 10 · faltou 1\u00a0procedimento" in page.text


def test_result_far_beyond_a_goal_says_more_than_150_percent(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_month(session, alice, 2, faturamento=189_000)

    assert "Faturamento mais de 150%" in open_page(browser).text


def test_score_explains_its_parts_and_the_shortest_ways_to_more(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_month(
        session, alice, 3, faturamento=16_000, leads=25, procedimentos=5, posts_feed=11, stories=60
    )

    page = open_page(browser)

    assert "Faturamento 40 de 40" in page.text
    assert "Conteúdo (posts e stories) 19 de 20" in page.text
    assert "Clientes (leads e procedimentos) 10 de 20" in page.text
    assert "Total 69 de 80" in page.text
    assert "80 pontos são todas as metas batidas" in page.text
    assert "Os caminhos mais curtos para mais pontos: +1\u00a0ponto com mais R$" in page.text
    assert "mais R$\u00a0200 de faturamento" in page.text


def test_month_without_points_says_it_once(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_month(session, alice, 2, **dict.fromkeys(FIGURES, 0))

    page = open_page(browser)

    assert "Sem pontos" in page.text
    assert "0 pontos" not in page.text


@pytest.mark.parametrize(
    ("measure", "title", "bar"),
    [
        ("", "Faturamento e lucro, mês a mês", "faturamento R$\u00a010.000, lucro R$\u00a04.000"),
        ("lucro", "Lucro, mês a mês", "lucro R$\u00a04.000"),
        ("leads", "Leads, mês a mês", "leads 40, meta 50"),
        ("procedimentos", "Procedimentos, mês a mês", "procedimentos 8, meta 10"),
        ("posts", "Posts, mês a mês", "posts 0, meta 12"),
        ("stories", "Stories, mês a mês", "stories 0, meta 60"),
        ("nada", "Faturamento e lucro, mês a mês", "meta R$\u00a016.000"),
    ],
)
def test_chart_switches_between_the_measures(
    browser: FlaskClient, alice: Mentorado, session: Session, measure: str, title: str, bar: str
) -> None:
    add_month(session, alice, 2)

    page = open_page(browser, f"/dashboard?mes=2026-02&medida={measure}")

    [radio] = radios_of(page)
    assert title in page.headings
    assert bar in radio.attributes["aria-label"]
    assert page.link("Stories") == "/dashboard?mes=2026-02&medida=stories#grafico"


def test_chart_is_one_group_with_the_newest_month_chosen(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_month(session, alice, 1)
    add_month(session, alice, 2)

    radios = radios_of(open_page(browser))

    assert len({radio.attributes["name"] for radio in radios}) == 1
    assert ["checked" in radio.attributes for radio in radios] == [False, True]


def test_gain_since_the_first_month_is_named_in_words(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_month(session, alice, 1, faturamento=10_000)
    add_month(session, alice, 2, faturamento=12_500)

    page = open_page(browser)

    assert (
        "A mais do que no 1º mês R$\u00a02.500 soma de 2 meses, comparados a janeiro de 2026"
        in page.text
    )
    assert "n/d" not in page.text


def test_gain_over_a_full_window_names_the_month_it_starts_with(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    for mes in range(1, 13):
        add_month(session, alice, mes, 2025)
    add_month(session, alice, 1, faturamento=12_500)

    text = open_page(browser).text

    assert "A mais do que em fevereiro de 2025 R$\u00a02.500 soma de 12 meses" in text


def test_growth_with_a_running_month_says_that_it_is_not_over(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_month(session, alice, 1)
    add_month(session, alice, 3, faturamento=1_000)

    text = open_page(browser).text

    assert "Crescimento -90% no faturamento, de janeiro de 2026 até agora" in text
    assert "soma de 2 meses, comparados a janeiro de 2026, até agora" in text


def test_figures_that_were_not_given_are_no_zeros(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_month(session, alice, 1, posts_feed=9)
    add_month(session, alice, 2, lucro=0, leads=0, reported_fields={"faturamento": True})

    page = open_page(browser)

    assert "Lucro do mês Sem registro" in page.text
    assert "Leads 0% Sem registro, meta de 50 Procedimentos" in page.text
    assert "Posts 0% Sem registro, meta de 12 Stories" in page.text
    assert "fev. 2026 R$\u00a010.000 –sem registro –sem registro" in page.text
    assert radios_of(page)[-1].attributes["aria-label"] == (
        "fevereiro de 2026: faturamento R$\u00a010.000, lucro sem registro, meta R$\u00a016.000"
    )


def test_figure_not_given_yet_says_what_is_missing_in_the_running_month(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_month(session, alice, 3, leads=0, reported_fields={"faturamento": True})

    text = open_page(browser).text

    assert "Leads 0% Sem registro · faltam 50\u00a0leads em 10\u00a0dias" in text


def test_first_month_shows_no_empty_comparison(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_month(session, alice, 2)

    headings = open_page(browser).headings

    assert "Crescimento" not in headings


# What is due


@pytest.mark.parametrize(
    ("now", "path"),
    [
        (datetime(2026, 3, 1, 2, 59, tzinfo=UTC), "/metricas/2026/1"),  # 28 February in Brasília
        (datetime(2026, 3, 1, 3, 0, tzinfo=UTC), "/metricas/2026/2"),
        (datetime(2026, 3, 11, 2, 59, tzinfo=UTC), "/metricas/2026/2"),
        (datetime(2026, 3, 11, 3, 0, tzinfo=UTC), "/metricas/2026/3"),
    ],
)
def test_metrics_link_opens_the_month_to_close_until_day_10(
    browser: FlaskClient, set_now: SetNow, now: datetime, path: str
) -> None:
    set_now(now)

    link = open_page(browser).link("Métricas")

    assert link == (path if path != "/metricas/2026/1" else "/metricas/2026/2")


def test_metrics_link_of_a_mentee_who_has_just_joined_opens_the_current_month(
    browser: FlaskClient, alice: Mentorado, session: Session, set_now: SetNow
) -> None:
    alice.created_at = START_OF_MARCH
    session.commit()
    set_now(START_OF_MARCH)

    page = open_page(browser)

    assert page.link("Métricas") == "/metricas/2026/3"
    assert "Falta fechar" not in page.text


def test_metrics_link_beside_a_month_to_close_opens_that_month(
    browser: FlaskClient, alice: Mentorado, session: Session, set_now: SetNow
) -> None:
    alice.created_at = START_OF_MARCH
    session.commit()
    set_now(START_OF_MARCH)
    add_month(session, alice, 2, reported_fields={"faturamento": True})

    page = open_page(browser)

    assert page.headings[0] == "Falta fechar fevereiro: 1 de 6 campos"
    assert page.link("Métricas") == "/metricas/2026/2"


def test_last_month_without_a_report_is_announced_as_due(
    browser: FlaskClient, set_now: SetNow
) -> None:
    set_now(START_OF_MARCH)

    page = open_page(browser)

    assert page.headings[0] == "Falta fechar fevereiro: 0 de 6 campos"
    assert "O prazo é dia 10: faltam 7 dias." in page.text
    assert page.link("Fechar fevereiro") == "/metricas/2026/2"


def test_half_reported_month_names_what_is_missing_until_it_is_complete(
    browser: FlaskClient, set_now: SetNow
) -> None:
    set_now(START_OF_MARCH)
    four = {"faturamento": "9.000", "lucro": "0", "leads": "30", "procedimentos": "5"}

    submit(browser, "/metricas/2026/2", faturamento="9.000")
    begun = open_page(browser)
    submit(browser, "/metricas/2026/2", **four)
    half = open_page(browser)
    submit(browser, "/metricas/2026/2", posts_feed="0", stories="12")
    complete = open_page(browser)

    assert "Ainda sem lucro, leads, procedimentos, posts e stories." in begun.text
    assert half.headings[0] == "Falta fechar fevereiro: 4 de 6 campos"
    assert "Ainda sem posts e stories." in half.text
    assert "Falta fechar" not in complete.text


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (datetime(2026, 3, 9, 12, tzinfo=UTC), "O prazo é dia 10: falta 1 dia."),
        (datetime(2026, 3, 10, 12, tzinfo=UTC), "O prazo é hoje, dia 10."),
        (MID_MARCH, "O prazo era dia 10, mas ainda dá para registrar."),
    ],
)
def test_due_month_says_how_much_time_is_left(
    browser: FlaskClient, set_now: SetNow, now: datetime, text: str
) -> None:
    set_now(now)

    assert text in open_page(browser).text


def test_streak_of_months_reported_in_time_is_shown(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    for mes, day in ((11, 20), (12, 9)):
        created_at = datetime(2026 if mes == 12 else 2025, (mes % 12) + 1, day, tzinfo=UTC)
        add_month(session, alice, mes, ano=2025, created_at=created_at)
    for mes in (1, 2):
        add_month(session, alice, mes, created_at=datetime(2026, mes + 1, 5, tzinfo=UTC))

    page = open_page(browser)

    assert "3 meses seguidos registrados até o dia 10. Parabéns pela constância!" in page.text
    assert "seguidos" not in open_page(browser, "/dashboard?mes=2026-02").text


# Feedback


def test_line_breaks_and_links_of_feedback_are_kept(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_feedback(session, alice, 2, analise_mes="Pontos:\n- agenda\n- https://neon.example/guia")

    response = browser.get("/dashboard")

    assert '<p class="lines">Pontos:\n- agenda\n- <a href="https://neon.example/guia"' in (
        response.text
    )


def test_feedback_has_its_author_and_date(
    browser: FlaskClient, alice: Mentorado, session: Session, admin: dict[str, str]
) -> None:
    mentor = session.scalars(select(User).where(User.clerk_id != ALICE.clerk_id)).one()
    mentor.name = "Davi Mentor"
    texts = {"analise_mes": "Bom.", "foco_proximo_mes": "Leads.", "sugestao_mentor": "Siga."}
    mentoring.write_feedback(
        session,
        alice.id,
        Period(2026, 2),
        texts,
        expected=dict.fromkeys(texts, ""),
        source=Source("admin", actor_id=mentor.id),
        now=MID_MARCH,
    )
    session.commit()

    assert "Escrito por Davi Mentor em 21/03/2026." in open_page(browser).text


def test_feedback_is_new_until_it_is_marked_as_read_and_again_after_a_change(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_feedback(session, alice, 2)
    session.execute(update(Feedback).values(updated_at=NOW))
    session.commit()

    new = open_page(browser)
    read = submit(browser, "/feedback/2026/2/lido")
    session.execute(update(Feedback).values(updated_at=datetime(2027, 1, 1, tzinfo=UTC)))
    session.commit()

    assert "Feedback de fevereiro de 2026 novo" in new.headings
    assert "Feedback de fevereiro de 2026" in read.headings
    assert "Feedback de fevereiro de 2026 novo" in open_page(browser).headings


def test_new_feedback_of_another_month_is_announced(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_month(session, alice, 2)
    add_feedback(session, alice, 1)
    add_feedback(session, alice, 2, read_at=datetime(2027, 1, 1, tzinfo=UTC))

    page = open_page(browser)

    assert page.link("ler o de janeiro de 2026") == "/dashboard?mes=2026-01#feedback"


def test_several_new_feedbacks_are_announced_together(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    for mes in (1, 2, 3):
        add_feedback(session, alice, mes)

    page = open_page(browser, "/dashboard?mes=2026-03")

    assert (
        "Você tem 2 feedbacks novos: ler o de fevereiro de 2026, o de janeiro de 2026." in page.text
    )
    assert page.link("o de janeiro de 2026") == "/dashboard?mes=2026-01#feedback"


def test_feedback_of_other_months_is_listed(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    for mes in (1, 2):
        add_feedback(session, alice, mes, read_at=datetime(2027, 1, 1, tzinfo=UTC))

    page = open_page(browser, "/dashboard?mes=2026-03")

    assert "Ainda não há feedback deste mês." in page.text
    assert page.link("jan. 2026") == "/dashboard?mes=2026-01#feedback"
    assert page.link("fev. 2026") == "/dashboard?mes=2026-02#feedback"


def test_focus_of_the_feedback_is_shown_and_ticked_in_the_next_month(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_feedback(session, alice, 2, foco_proximo_mes="Ligar para 20 leads")

    before = open_page(browser, "/dashboard?mes=2026-03")
    ticked = submit(browser, "/feedback/2026/2/foco", feito="sim", mes="2026-03")
    reopened = submit(browser, "/feedback/2026/2/foco", feito="nao", mes="2026-03")

    assert "Foco de março" in before.headings
    assert "Ligar para 20 leads" in before.text
    assert "Foco de março concluído" in ticked.headings
    assert "Foco de março" in reopened.headings


def test_marks_of_a_missing_feedback_are_not_found(browser: FlaskClient) -> None:
    for path in ("/feedback/2026/2/lido", "/feedback/2026/2/foco"):
        response = browser.post(path, headers={"Origin": "http://localhost"})
        assert response.status_code == 404


def test_note_of_the_month_is_shown_with_its_reader(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_month(session, alice, 2, observacoes="Perdi 3 clientes.\nPreciso de ajuda.")

    page = open_page(browser)

    assert "Perdi 3 clientes. Preciso de ajuda." in page.text
    assert "Seu mentor lê o que você escreve aqui." in page.text


def test_note_of_the_month_reaches_the_admin_console(
    console: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_month(session, alice, 2, observacoes="Perdi 3 clientes.")

    page = open_page(console, f"/admin/mentorados/{alice.id}")

    assert "Perdi 3 clientes." in page.text
    assert page.link("Leads") == f"/admin/mentorados/{alice.id}?medida=leads#grafico"


# Goals that the team has changed


def test_changed_goals_are_announced_until_the_mentee_confirms(
    browser: FlaskClient, alice: Mentorado, client: FlaskClient, admin: dict[str, str]
) -> None:
    open_page(browser)
    for goals in ({"meta_leads": 55}, {"meta_leads": 60, "meta_faturamento": 20_000}):
        client.patch(f"/api/admin/mentorados/{alice.id}", json=goals, headers=admin)

    announced = open_page(browser)
    confirmed = submit(browser, "/metas/vistas")

    assert "Suas metas mudaram" in announced.headings
    assert (
        "faturamento de R$\u00a016.000 para R$\u00a020.000; leads de 50 para 60" in announced.text
    )
    assert "Suas metas mudaram" not in confirmed.headings


def test_goals_that_were_changed_back_are_not_announced(
    browser: FlaskClient, alice: Mentorado, client: FlaskClient, admin: dict[str, str]
) -> None:
    for leads in (60, 50):
        client.patch(f"/api/admin/mentorados/{alice.id}", json={"meta_leads": leads}, headers=admin)

    assert "Suas metas mudaram" not in open_page(browser).headings


def test_goals_of_one_month_are_marked(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_month(session, alice, 2, meta_leads=70)

    assert "A equipe definiu metas próprias para este mês." in open_page(browser).text


# Advice about the address


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ({"email": None}, "Sua conta não informa um e-mail."),
        ({"email_verified": False}, "Confirme seu e-mail para que possamos encontrar"),
        ({}, None),
    ],
)
def test_advice_of_the_diagnostic_stands_on_dashboard_and_profile(
    browser: FlaskClient,
    session: Session,
    sign: Sign,
    values: dict[str, object],
    advice: str | None,
) -> None:
    user = replace(ALICE, **values) if values else ALICE  # type: ignore[arg-type] # fields of it
    session.execute(update(User).values(**values) if values else select(User))
    session.commit()
    browser.set_cookie("__session", sign(user)["Authorization"].removeprefix("Bearer "))

    dashboard, profile = open_page(browser), open_page(browser, "/perfil")

    for page in (dashboard, profile):
        assert (advice or "Endereços de e-mail") in page.text or advice is None
        assert ("digite o código que chega por e-mail" in page.text) == (advice is not None)


def test_second_pre_registration_with_the_own_address_is_announced(
    browser: FlaskClient, session: Session
) -> None:
    session.add(Mentorado(nome_completo="Alice", email=ALICE.email, turma="neon"))
    session.commit()

    page = open_page(browser)

    assert "Há um pré-cadastro com seu e-mail. Fale com a equipe" in page.text


# Without a database


def test_earlier_month_is_read_from_the_copy_while_the_database_is_away(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_month(session, alice, 1, faturamento=4_321)
    add_month(session, alice, 2)
    open_page(browser)
    fail_queries_of_months(session, ADMIN_SHUTDOWN)

    page = open_page(browser, "/dashboard?mes=2026-01")
    too_early = browser.get("/dashboard?mes=2025-12")

    assert "R$\u00a04.321" in page.text
    assert "por enquanto não dá para alterar nada" in page.text
    assert not any(page.has_link(text) for text in ("Registrar janeiro", "Corrigir"))
    assert too_early.status_code == 503


def test_earlier_month_does_not_replace_the_copy_of_the_newest(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    add_month(session, alice, 1)
    add_month(session, alice, 2, faturamento=4_321)
    open_page(browser)
    open_page(browser, "/dashboard?mes=2026-01")
    fail_queries_of_months(session, ADMIN_SHUTDOWN)

    assert "R$\u00a04.321" in open_page(browser).text


def test_dashboard_of_another_user_shows_no_month_of_this_one(
    browser: FlaskClient, browser_of: Browser, alice: Mentorado, session: Session
) -> None:
    add_month(session, alice, 2, faturamento=4_321)
    add_feedback(session, alice, 2)

    page = open_page(browser_of(BOB), "/dashboard?mes=2026-02")

    assert "4.321" not in page.text
    assert "Bom mês." not in page.text
