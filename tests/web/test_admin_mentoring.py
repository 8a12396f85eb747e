"""Goals and feedback in the admin console: for one profile or for all, for reported months only."""

import html
import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from dashboard.mentoring import EditConflictError, write_feedback
from dashboard.periods import Period
from models import AuditEvent, Feedback, Mentorado, MetricaMensal
from models.people import SimNao, Turma
from provisioning.audit import Source
from tests.support.html_page import SAME_ORIGIN, page_of
from tests.support.types import Browser
from tests.support.users import ALICE, NOW

SEEN_FIELD = re.compile(r'name="visto" value="([^"]*)"')
TEXTS = {"analise_mes": "Bom", "foco_proximo_mes": "Leads\r\nmais", "sugestao_mentor": "<Agenda>"}


@pytest.fixture
def january(session: Session, alice: Mentorado) -> MetricaMensal:
    """A month of January that Alice has reported."""
    month = MetricaMensal(mentorado_id=alice.id, ano=2026, mes=1, faturamento=8_000)
    session.add(month)
    session.commit()
    return month


def post(console: FlaskClient, path: str, **form: str) -> tuple[int, str]:
    response = console.post(path, data=form, headers=SAME_ORIGIN)
    return response.status_code, html.unescape(response.get_data(as_text=True))


def overview_of(browser: FlaskClient) -> Any:
    return browser.get("/api/mentorados/me/overview").json


def test_goals_of_a_month_apply_to_that_month(
    console: FlaskClient, alice: Mentorado, january: MetricaMensal, browser_of: Browser
) -> None:
    status, _ = post(
        console, f"/admin/mentorados/{alice.id}/metas/2026/1", meta_faturamento="8.000"
    )

    goal = overview_of(browser_of(ALICE))["goals"][0]
    assert (status, goal["goal"], goal["percent"]) == (303, 8_000, 100)


def test_goals_of_a_month_are_shown_and_can_be_removed(
    console: FlaskClient, alice: Mentorado, january: MetricaMensal, session: Session
) -> None:
    path = f"/admin/mentorados/{alice.id}/metas/2026/1"
    post(console, path, meta_leads="70", meta_posts="")
    shown = page_of(console, path)

    status, _ = post(console, path, meta_leads="", meta_posts="")

    session.expire_all()
    [*_, removed] = session.scalars(select(AuditEvent).order_by(AuditEvent.id))
    assert 'name="meta_leads" value="70"' in shown
    assert "Padrão: 50</p>" in shown
    assert "Padrão: 12 (é a que vale)" in shown
    assert (status, january.meta_leads) == (303, None)
    assert (removed.details or {})["before"] == {"meta_leads": 70}
    assert (removed.details or {})["after"] == {"meta_leads": None}


def test_preview_of_goals_of_all_shows_who_changes_from_what_to_what(
    console: FlaskClient, alice: Mentorado, session: Session
) -> None:
    session.add(Mentorado(nome_completo="Já assim", turma=Turma.NEON, meta_leads=77))
    session.commit()

    _, page = post(console, "/admin/metas", meta_leads="77")

    assert "Um mentorado ativo muda." in page
    assert re.search(r">Alice Prado</a></th>\s*<td[^>]*>50 → <strong>77</strong>", page)
    assert "Já assim" not in page


def test_goals_of_all_are_undone_except_where_changed_again(
    console: FlaskClient, alice: Mentorado, session: Session
) -> None:
    later = Mentorado(nome_completo="Mudou depois", turma=Turma.NEON)
    session.add(later)
    session.commit()
    form = {"meta_leads": "77", "confirmado": "sim", **preview_fields(console, meta_leads="77")}
    job = console.post("/admin/metas", data=form, headers=SAME_ORIGIN).location
    session.expire_all()
    later.meta_leads = 80
    session.commit()
    before = page_of(console, job)

    undone = [console.post(f"{job}/desfazer", headers=SAME_ORIGIN).location for _ in range(2)]

    session.expire_all()
    page = page_of(console, undone[0])
    assert "Desfazer esta mudança" in before
    assert undone[0] == undone[1] != job
    assert (alice.meta_leads, later.meta_leads) == (50, 80)
    assert "Metas de um mentorado voltaram ao que eram" in page
    assert "ficou como está: 1" in page
    assert "Esta mudança foi desfeita." in page_of(console, job)
    assert admin_actions(session).count("goals_undone") == 1


def test_goals_of_a_month_for_all_are_undone_to_the_standing_goals(
    console: FlaskClient, alice: Mentorado, january: MetricaMensal, session: Session
) -> None:
    form = {"meta_leads": "77", "mes": "2026-01"}
    fields = preview_fields(console, **form)
    response = console.post(
        "/admin/metas", data={**form, **fields, "confirmado": "sim"}, headers=SAME_ORIGIN
    )
    session.expire_all()
    changed = january.meta_leads

    console.post(f"{response.location}/desfazer", headers=SAME_ORIGIN)

    session.expire_all()
    assert (changed, january.meta_leads) == (77, None)


def test_undo_of_an_undo_is_refused(console: FlaskClient, alice: Mentorado) -> None:
    form = {"meta_leads": "77", "confirmado": "sim", **preview_fields(console, meta_leads="77")}
    job = console.post("/admin/metas", data=form, headers=SAME_ORIGIN).location
    undo = console.post(f"{job}/desfazer", headers=SAME_ORIGIN).location

    assert "Desfazer esta mudança" not in page_of(console, undo)
    assert console.post(f"{undo}/desfazer", headers=SAME_ORIGIN).status_code == 409


def test_goals_of_an_unreported_month_are_refused(
    console: FlaskClient, alice: Mentorado, session: Session
) -> None:
    status, page = post(console, f"/admin/mentorados/{alice.id}/metas/2026/1", meta_leads="5")

    assert (status, "ainda não registrou este mês" in page) == (422, True)
    assert session.scalars(select(MetricaMensal)).all() == []


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({}, "Informe ao menos um campo."),
        ({"meta_leads": "abc"}, "Informe um número inteiro, como 12.500."),
        ({"meta_leads": "-1"}, "Informe zero ou um número maior."),
        ({"meta_leads": "5", "mes": "x"}, "Informe um mês como 2026-03."),
        ({"meta_leads": "5", "mes": "2999-01"}, "Este mês ainda não começou."),
    ],
)
def test_invalid_goals_are_shown_again_with_a_message(
    console: FlaskClient, alice: Mentorado, form: dict[str, str], message: str
) -> None:
    status, page = post(console, "/admin/metas", confirmado="sim", **form)

    assert (status, message in page) == (422, True)


def test_goals_of_all_are_previewed_and_set_for_active_profiles(
    console: FlaskClient, alice: Mentorado, session: Session, browser_of: Browser
) -> None:
    inactive = Mentorado(nome_completo="Fora", turma=Turma.NEON, ativo=SimNao.NAO)
    session.add(inactive)
    session.commit()
    mentee = browser_of(ALICE)
    mentee.get("/dashboard")

    _, page = post(console, "/admin/metas", meta_leads="77")
    before = (mentee.get("/api/mentorados/me").json or {})["meta_leads"]
    status, _ = post(console, "/admin/metas", meta_leads="77", confirmado="sim")

    after = (mentee.get("/api/mentorados/me").json or {})["meta_leads"]
    assert "Um mentorado ativo muda." in page
    assert (status, before, after, inactive.meta_leads) == (303, 50, 77, 50)


def preview_fields(console: FlaskClient, **goals: str) -> dict[str, str]:
    """The hidden fields of the form after the preview of these goals."""
    _, page = post(console, "/admin/metas", **goals)
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page))


def admin_actions(session: Session) -> list[str]:
    events = session.scalars(select(AuditEvent).where(AuditEvent.event == "admin_action"))
    return [(event.details or {})["action"] for event in events]


def test_goals_of_all_submitted_twice_are_set_once(
    console: FlaskClient, alice: Mentorado, session: Session
) -> None:
    form = {"meta_leads": "77", "confirmado": "sim", **preview_fields(console, meta_leads="77")}

    responses = [console.post("/admin/metas", data=form, headers=SAME_ORIGIN) for _ in range(2)]

    page = html.unescape(console.get(responses[1].location).get_data(as_text=True))
    assert responses[0].location == responses[1].location
    assert "Metas de um mentorado atualizadas" in page
    assert admin_actions(session) == ["goals_in_bulk", "goals_of_all"]


def test_goals_other_than_the_previewed_ones_are_refused(
    console: FlaskClient, alice: Mentorado, session: Session
) -> None:
    form = {"meta_leads": "78", "confirmado": "sim", **preview_fields(console, meta_leads="77")}

    status, page = post(console, "/admin/metas", **form)

    session.expire_all()
    assert (status, alice.meta_leads) == (409, 50)
    assert "não são os que foram contados" in page


def test_preview_of_goals_of_all_neither_locks_nor_writes(
    console: FlaskClient, alice: Mentorado, session: Session
) -> None:
    before = session.scalar(text("SELECT xmin::text FROM mentorados"))

    preview_fields(console, meta_leads="77")

    assert session.scalar(text("SELECT xmin::text FROM mentorados")) == before
    assert session.scalar(text("SELECT xmax::text FROM mentorados")) == "0"


def test_unchanged_goals_of_a_month_are_not_audited_again(
    console: FlaskClient, alice: Mentorado, january: MetricaMensal, session: Session
) -> None:
    for _ in range(2):
        post(console, f"/admin/mentorados/{alice.id}/metas/2026/1", meta_leads="5")

    assert admin_actions(session) == ["month_goals"]


def test_goals_of_all_in_one_month_apply_to_reported_months(
    console: FlaskClient, alice: Mentorado, january: MetricaMensal, session: Session
) -> None:
    session.add(Mentorado(nome_completo="Sem mês", turma=Turma.NEON))
    session.commit()

    post(console, "/admin/metas", meta_leads="77", mes="2026-01", confirmado="sim")

    session.expire_all()
    assert (january.meta_leads, alice.meta_leads) == (77, 50)
    assert len(session.scalars(select(MetricaMensal)).all()) == 1


def test_feedback_is_visible_at_once_and_audited(
    console: FlaskClient, alice: Mentorado, session: Session, browser_of: Browser
) -> None:
    status, _ = post(console, f"/admin/mentorados/{alice.id}/feedback/2026/1", **TEXTS)

    feedback = overview_of(browser_of(ALICE))["feedback"]
    [event] = session.scalars(select(AuditEvent).where(AuditEvent.event == "admin_action"))
    assert (status, feedback["foco_proximo_mes"]) == (303, "Leads\nmais")
    assert event.details == {"action": "feedback", "month": [2026, 1]}


def add_reported(session: Session, *names: str) -> list[int]:
    """Add mentees who have reported January, and return their ids."""
    profiles = [Mentorado(nome_completo=name, turma=Turma.NEON) for name in names]
    session.add_all(profiles)
    session.flush()  # the months need the ids
    session.add_all(MetricaMensal(mentorado_id=p.id, ano=2026, mes=1) for p in profiles)
    session.commit()
    return [profile.id for profile in profiles]


def test_writing_view_shows_figures_notes_and_the_last_feedback(
    console: FlaskClient, alice: Mentorado, january: MetricaMensal, session: Session
) -> None:
    january.observacoes = "Perdi 3 clientes.\nPreciso de ajuda."
    february = MetricaMensal(
        mentorado_id=alice.id, ano=2026, mes=2, faturamento=12_000, meta_faturamento=10_000
    )
    last = Feedback(
        mentorado_id=alice.id,
        ano=2026,
        mes=1,
        analise_mes="Um bom começo",
        foco_proximo_mes="b",
        sugestao_mentor="c",
    )
    session.add_all([february, last])
    session.commit()

    of_january = page_of(console, f"/admin/mentorados/{alice.id}/feedback/2026/1")
    of_february = page_of(console, f"/admin/mentorados/{alice.id}/feedback/2026/2")

    text = re.sub(r"[ \n]+", " ", re.sub(r"<[^>]+>", " ", of_february))
    assert "Preciso de ajuda." in of_january
    assert "Último feedback" not in of_january
    assert "Último feedback: janeiro de 2026" in text
    assert "Um bom começo" in text
    assert "Faturamento R$\u00a012.000 R$\u00a08.000 R$\u00a010.000 (só deste mês)" in text
    assert "O mês: 48 pontos (+28)" in text
    assert f"/admin/mentorados/{alice.id}/feedback/2026/1" in of_february


def test_saving_leads_to_the_next_mentee_without_feedback_until_none_is_left(
    console: FlaskClient, session: Session
) -> None:
    ana, elida, zoe = add_reported(session, "Ana", "Élida", "Zoé")
    session.add(Mentorado(nome_completo="Bia, sem mês", turma=Turma.NEON))
    session.commit()
    visited = [f"/admin/mentorados/{elida}/feedback/2026/1"]

    while "/feedback/" in visited[-1]:
        response = console.post(
            visited[-1], data={**TEXTS, "depois": "proximo"}, headers=SAME_ORIGIN
        )
        visited.append(response.location)

    assert visited[1:] == [
        f"/admin/mentorados/{zoe}/feedback/2026/1",
        f"/admin/mentorados/{ana}/feedback/2026/1",
        "/admin/meses/2026/1",
    ]
    assert "Todos que registraram janeiro de 2026 têm feedback." in page_of(console, visited[-1])


def test_second_feedback_of_a_month_replaces_the_first(
    console: FlaskClient, alice: Mentorado, session: Session
) -> None:
    path = f"/admin/mentorados/{alice.id}/feedback/2026/1"

    for analysis in ("Bom", "Melhor"):
        post(console, path, **{**TEXTS, "analise_mes": analysis})

    [feedback] = session.scalars(select(Feedback))
    assert feedback.analise_mes == "Melhor"


def test_conflicting_feedback_is_refused_and_shown(
    console: FlaskClient, alice: Mentorado, session: Session
) -> None:
    path = f"/admin/mentorados/{alice.id}/feedback/2026/1"
    [seen] = SEEN_FIELD.findall(console.get(path).get_data(as_text=True))
    post(console, path, **{**TEXTS, "analise_mes": "De outra pessoa"})

    status, page = post(console, path, **TEXTS, visto=seen)

    [feedback] = session.scalars(select(Feedback))
    assert (status, feedback.analise_mes) == (409, "De outra pessoa")
    assert "Salvo: De outra pessoa" in page


def test_feedback_based_on_an_old_version_is_refused(alice: Mentorado, session: Session) -> None:
    blank = dict.fromkeys(TEXTS, "")
    first, second = {**TEXTS, "analise_mes": "Primeira"}, {**TEXTS, "analise_mes": "Segunda"}
    options: Any = {"expected": blank, "source": Source("admin"), "now": NOW}
    write_feedback(session, alice.id, Period(2026, 1), first, **options)

    with pytest.raises(EditConflictError):
        write_feedback(session, alice.id, Period(2026, 1), second, **options)

    assert session.scalars(select(Feedback.analise_mes)).all() == ["Primeira"]


def test_blank_feedback_is_refused_and_the_form_keeps_its_texts(
    console: FlaskClient, alice: Mentorado, session: Session
) -> None:
    status, page = post(
        console, f"/admin/mentorados/{alice.id}/feedback/2026/1", **{**TEXTS, "analise_mes": " "}
    )

    assert (status, "Escreva este texto." in page, "<Agenda>" in page) == (422, True, True)
    assert session.scalars(select(Feedback)).all() == []


@pytest.mark.parametrize("page_name", ["metas", "feedback"])
def test_goals_and_feedback_of_an_unknown_profile_are_not_found(
    console: FlaskClient, page_name: str
) -> None:
    assert console.get(f"/admin/mentorados/2147483647/{page_name}/2026/1").status_code == 404
