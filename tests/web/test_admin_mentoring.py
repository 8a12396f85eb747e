"""Goals and feedback at the desk: for one or for all, and never a month out of nothing."""

import html
import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from dashboard.mentoring import OvertakenError, write_feedback
from models import AuditEvent, Feedback, Mentorado, MetricaMensal
from models.columns import SimNao
from models.mentorado import Turma
from provisioning.audit import Source
from tests.support.types import Browser
from tests.support.users import ALICE, NOW

OURS = {"Origin": "http://localhost"}
SEEN = re.compile(r'name="visto" value="([^"]*)"')
WORDS = {"analise_mes": "Bom", "foco_proximo_mes": "Leads\r\nmais", "sugestao_mentor": "<Agenda>"}


@pytest.fixture
def january(session: Session, alice: Mentorado) -> MetricaMensal:
    """Alice has reported January."""
    month = MetricaMensal(mentorado_id=alice.id, ano=2026, mes=1, faturamento=8_000)
    session.add(month)
    session.commit()
    return month


def post(desk: FlaskClient, path: str, **sent: str) -> tuple[int, str]:
    answer = desk.post(path, data=sent, headers=OURS)
    return answer.status_code, html.unescape(answer.get_data(as_text=True))


def overview_of(browser: FlaskClient) -> Any:
    return browser.get("/api/mentorados/me/overview").json


def test_goals_of_a_month_hold_in_that_month(
    desk: FlaskClient, alice: Mentorado, january: MetricaMensal, browser_of: Browser
) -> None:
    status, _ = post(desk, f"/admin/mentorados/{alice.id}/metas/2026/1", meta_faturamento="8.000")

    goal = overview_of(browser_of(ALICE))["goals"][0]
    assert (status, goal["goal"], goal["percent"]) == (303, 8_000, 100)


def test_goals_of_a_month_that_was_not_reported_fabricate_none(
    desk: FlaskClient, alice: Mentorado, session: Session
) -> None:
    status, page = post(desk, f"/admin/mentorados/{alice.id}/metas/2026/1", meta_leads="5")

    assert (status, "ainda não registrou este mês" in page) == (422, True)
    assert session.scalars(select(MetricaMensal)).all() == []


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({}, "Informe ao menos um campo."),
        ({"meta_leads": "abc"}, "Informe um número inteiro, como 12.500."),
        ({"meta_leads": "-1"}, "Informe zero ou um número maior."),
        ({"meta_leads": "5", "mes": "x"}, "Informe um mês como 2026-03."),
        ({"meta_leads": "5", "mes": "2999-01"}, "Este mês ainda não começou."),
    ],
)
def test_goals_that_do_not_fit_are_asked_for_again(
    desk: FlaskClient, alice: Mentorado, sent: dict[str, str], message: str
) -> None:
    status, page = post(desk, "/admin/metas", confirmado="sim", **sent)

    assert (status, message in page) == (422, True)


def test_goals_of_all_are_counted_first_and_then_set_for_the_active(
    desk: FlaskClient, alice: Mentorado, session: Session, browser_of: Browser
) -> None:
    away = Mentorado(nome_completo="Fora", turma=Turma.NEON, ativo=SimNao.NAO)
    session.add(away)
    session.commit()
    mentee = browser_of(ALICE)
    mentee.get("/dashboard")

    _, counted = post(desk, "/admin/metas", meta_leads="77")
    before = (mentee.get("/api/mentorados/me").json or {})["meta_leads"]
    status, _ = post(desk, "/admin/metas", meta_leads="77", confirmado="sim")

    after = (mentee.get("/api/mentorados/me").json or {})["meta_leads"]
    assert "Um mentorado ativo muda." in counted
    assert (status, before, after, away.meta_leads) == (303, 50, 77, 50)


def counted(desk: FlaskClient, **goals: str) -> dict[str, str]:
    """The hidden fields of the form that has counted these goals."""
    _, page = post(desk, "/admin/metas", **goals)
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page))


def admin_actions(session: Session) -> list[str]:
    events = session.scalars(select(AuditEvent).where(AuditEvent.event == "admin_action"))
    return [(event.details or {})["action"] for event in events]


def test_goals_of_all_that_are_sent_twice_are_set_once(
    desk: FlaskClient, alice: Mentorado, session: Session
) -> None:
    form = {"meta_leads": "77", "confirmado": "sim", **counted(desk, meta_leads="77")}

    answers = [desk.post("/admin/metas", data=form, headers=OURS) for _ in range(2)]

    page = html.unescape(desk.get(answers[1].location).get_data(as_text=True))
    assert answers[0].location == answers[1].location
    assert "Metas de um mentorado atualizadas" in page
    assert admin_actions(session) == ["goals_of_all"]


def test_goals_that_are_not_those_that_were_counted_are_counted_again(
    desk: FlaskClient, alice: Mentorado, session: Session
) -> None:
    form = {"meta_leads": "78", "confirmado": "sim", **counted(desk, meta_leads="77")}

    status, page = post(desk, "/admin/metas", **form)

    session.expire_all()
    assert (status, alice.meta_leads) == (409, 50)
    assert "não são os que foram contados" in page


def test_goals_of_all_are_counted_without_locks_or_writing(
    desk: FlaskClient, alice: Mentorado, session: Session
) -> None:
    before = session.scalar(text("SELECT xmin::text FROM mentorados"))

    counted(desk, meta_leads="77")

    assert session.scalar(text("SELECT xmin::text FROM mentorados")) == before
    assert session.scalar(text("SELECT xmax::text FROM mentorados")) == "0"


def test_goals_of_a_month_that_are_set_already_are_not_recorded_again(
    desk: FlaskClient, alice: Mentorado, january: MetricaMensal, session: Session
) -> None:
    for _ in range(2):
        post(desk, f"/admin/mentorados/{alice.id}/metas/2026/1", meta_leads="5")

    assert admin_actions(session) == ["month_goals"]


def test_goals_of_all_in_one_month_reach_those_who_have_reported_it(
    desk: FlaskClient, alice: Mentorado, january: MetricaMensal, session: Session
) -> None:
    session.add(Mentorado(nome_completo="Sem mês", turma=Turma.NEON))
    session.commit()

    post(desk, "/admin/metas", meta_leads="77", mes="2026-01", confirmado="sim")

    session.expire_all()
    assert (january.meta_leads, alice.meta_leads) == (77, 50)
    assert len(session.scalars(select(MetricaMensal)).all()) == 1


def test_feedback_is_on_the_dashboard_at_once_and_on_record(
    desk: FlaskClient, alice: Mentorado, session: Session, browser_of: Browser
) -> None:
    status, _ = post(desk, f"/admin/mentorados/{alice.id}/feedback/2026/1", **WORDS)

    shown = overview_of(browser_of(ALICE))["feedback"]
    [event] = session.scalars(select(AuditEvent).where(AuditEvent.event == "admin_action"))
    assert (status, shown["foco_proximo_mes"]) == (303, "Leads\nmais")
    assert event.details == {"action": "feedback", "month": [2026, 1]}


def test_feedback_is_changed_in_its_place(
    desk: FlaskClient, alice: Mentorado, session: Session
) -> None:
    path = f"/admin/mentorados/{alice.id}/feedback/2026/1"

    for analysis in ("Bom", "Melhor"):
        post(desk, path, **{**WORDS, "analise_mes": analysis})

    [feedback] = session.scalars(select(Feedback))
    assert feedback.analise_mes == "Melhor"


def test_feedback_that_somebody_else_has_saved_meanwhile_is_shown_beside(
    desk: FlaskClient, alice: Mentorado, session: Session
) -> None:
    path = f"/admin/mentorados/{alice.id}/feedback/2026/1"
    [seen] = SEEN.findall(desk.get(path).get_data(as_text=True))
    post(desk, path, **{**WORDS, "analise_mes": "De outra pessoa"})

    status, page = post(desk, path, **WORDS, visto=seen)

    [feedback] = session.scalars(select(Feedback))
    assert (status, feedback.analise_mes) == (409, "De outra pessoa")
    assert "Salvo: De outra pessoa" in page


def test_writer_who_was_overtaken_in_the_last_moment_replaces_nothing(
    alice: Mentorado, session: Session
) -> None:
    blank = dict.fromkeys(WORDS, "")
    kept, late = {**WORDS, "analise_mes": "Primeira"}, {**WORDS, "analise_mes": "Segunda"}
    about: Any = {"instead_of": blank, "source": Source("admin"), "now": NOW}
    write_feedback(session, alice.id, (2026, 1), kept, **about)

    with pytest.raises(OvertakenError):
        write_feedback(session, alice.id, (2026, 1), late, **about)

    assert session.scalars(select(Feedback.analise_mes)).all() == ["Primeira"]


def test_feedback_that_says_nothing_keeps_what_was_typed(
    desk: FlaskClient, alice: Mentorado, session: Session
) -> None:
    status, page = post(
        desk, f"/admin/mentorados/{alice.id}/feedback/2026/1", **{**WORDS, "analise_mes": " "}
    )

    assert (status, "Escreva este texto." in page, "<Agenda>" in page) == (422, True, True)
    assert session.scalars(select(Feedback)).all() == []


@pytest.mark.parametrize("what", ["metas", "feedback"])
def test_nobody_has_neither_goals_nor_feedback(desk: FlaskClient, what: str) -> None:
    assert desk.get(f"/admin/mentorados/2147483647/{what}/2026/1").status_code == 404
