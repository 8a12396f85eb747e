"""Deleting a month by page and API, restoring it, the list of all months, and its CSV."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, literal_column, select, update
from sqlalchemy.orm import Session

from models import ArchivedRow, AuditEvent, Mentorado, MetricaMensal
from provisioning.deleted_profiles import RESTORE_TIME
from tests.support.html_page import SAME_ORIGIN, Page, open_page, submit
from tests.support.types import Browser, Sign
from tests.support.users import ALICE, BOB, NOW
from web.job_runner import JobRunner
from web.services import EXTENSION, Services

FEBRUARY = "/metricas/2026/2"
API = "/api/mentorados/me/metricas/2026/2"


@pytest.fixture(autouse=True)
def in_march(app: Flask, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the date to the tenth of March 2026."""
    monkeypatch.setitem(app.extensions, EXTENSION, replace(services, now=lambda: NOW))


@pytest.fixture
def browser(alice: Mentorado, session: Session, browser_of: Browser) -> FlaskClient:
    """Alice's browser; she has reported January and, with goals of its own, February."""
    session.add(MetricaMensal(mentorado_id=alice.id, ano=2026, mes=1, faturamento=9_000, leads=9))
    session.add(
        MetricaMensal(
            mentorado_id=alice.id,
            ano=2026,
            mes=2,
            faturamento=12_900,
            lucro=-500,
            leads=20,
            observacoes="=1+1\nMês curto",
            meta_leads=70,
            reported_fields={"faturamento": True, "lucro": True, "leads": True},
        )
    )
    session.commit()
    return browser_of(ALICE)


def stored_months(session: Session) -> list[dict[str, Any]]:
    """Every column of every month."""
    session.expire_all()
    rows = select(func.to_jsonb(literal_column("metricas_mensais"))).select_from(MetricaMensal)
    return list(session.scalars(rows.order_by(MetricaMensal.mes)))


def test_form_of_a_reported_month_links_to_its_deletion(browser: FlaskClient) -> None:
    assert open_page(browser, FEBRUARY).link("Apagar este mês…") == f"{FEBRUARY}/apagar"
    assert not open_page(browser, "/metricas/2026/3").has_link("Apagar este mês…")


def test_confirmation_shows_the_figures(browser: FlaskClient) -> None:
    page = open_page(browser, f"{FEBRUARY}/apagar")

    assert page.headings == ["Apagar fevereiro de 2026?"]
    assert "Faturamento R$\u00a012.900 Lucro -R$\u00a0500 Leads 20" in page.text
    assert "Mês curto" in page.text


def test_copies_of_deleted_months_are_deleted_by_the_job_runner(
    browser: FlaskClient, session: Session
) -> None:
    browser.post(f"{FEBRUARY}/apagar", headers=SAME_ORIGIN)
    session.execute(update(ArchivedRow).values(at=datetime.now(UTC) - timedelta(days=29)))
    session.commit()
    JobRunner({}, lambda *_: None).run_pending()
    kept = session.scalars(select(ArchivedRow.reason)).all()
    session.execute(update(ArchivedRow).values(at=datetime.now(UTC) - timedelta(days=31)))
    session.commit()

    JobRunner({}, lambda *_: None).run_pending()

    assert kept == ["month_deleted"]
    assert session.scalars(select(ArchivedRow.id)).all() == []


def test_deleted_month_leaves_the_dashboard_and_can_be_restored(
    browser: FlaskClient, session: Session
) -> None:
    before = stored_months(session)

    deleted = submit(browser, f"{FEBRUARY}/apagar")
    dashboard = open_page(browser, "/dashboard?mes=2026-02")
    months_without = stored_months(session)
    restored = submit(browser, f"{FEBRUARY}/restaurar")

    assert "Apagamos fevereiro de 2026." in deleted.text
    assert "Fevereiro de 2026 (faturamento R$\u00a012.900): restaure até 09/04/2026" in deleted.text
    assert "Fevereiro de 2026: sem registro" in dashboard.headings
    assert months_without == before[:1]
    assert "Restauramos fevereiro de 2026." in restored.text
    assert stored_months(session) == before


def test_deletion_and_restoration_are_recorded(browser: FlaskClient, session: Session) -> None:
    submit(browser, f"{FEBRUARY}/apagar")
    submit(browser, f"{FEBRUARY}/restaurar")

    events = session.execute(
        select(AuditEvent.event, AuditEvent.details)
        .where(AuditEvent.event.startswith("month_"))
        .order_by(AuditEvent.id)
    )

    details = {"month": [2026, 2]}
    assert list(map(tuple, events)) == [("month_deleted", details), ("month_restored", details)]


def test_month_that_was_reported_again_is_not_overwritten_by_a_restoration(
    browser: FlaskClient, session: Session
) -> None:
    submit(browser, f"{FEBRUARY}/apagar")
    submit(browser, FEBRUARY, leads="77")

    page = submit(browser, f"{FEBRUARY}/restaurar")

    assert "Você já registrou fevereiro de 2026 de novo." in page.text
    assert [month["leads"] for month in stored_months(session)] == [9, 77]


def test_month_deleted_twice_is_restored_as_it_was_last(
    browser: FlaskClient, session: Session
) -> None:
    submit(browser, f"{FEBRUARY}/apagar")
    submit(browser, FEBRUARY, leads="77")
    submit(browser, f"{FEBRUARY}/apagar")

    submit(browser, f"{FEBRUARY}/restaurar")

    assert stored_months(session)[1]["leads"] == 77


def test_month_cannot_be_restored_after_thirty_days(browser: FlaskClient, session: Session) -> None:
    submit(browser, f"{FEBRUARY}/apagar")
    session.execute(update(ArchivedRow).values(at=NOW - RESTORE_TIME))
    session.commit()

    page = open_page(browser, "/perfil/meses")
    response = browser.post(f"{FEBRUARY}/restaurar", headers=SAME_ORIGIN)

    assert "Meses apagados" not in page.headings
    assert response.status_code == 404


def test_month_of_another_user_is_neither_deleted_nor_restored(
    browser: FlaskClient, browser_of: Browser, session: Session
) -> None:
    bob = browser_of(BOB)

    deleted = bob.post(f"{FEBRUARY}/apagar", headers=SAME_ORIGIN)
    submit(browser, f"{FEBRUARY}/apagar")
    restored = bob.post(f"{FEBRUARY}/restaurar", headers=SAME_ORIGIN)

    assert (deleted.status_code, restored.status_code) == (404, 404)
    assert "Meses apagados" not in open_page(bob, "/perfil/meses").headings


def test_month_that_has_changed_since_its_confirmation_is_shown_again(
    browser: FlaskClient, session: Session
) -> None:
    page = open_page(browser, f"{FEBRUARY}/apagar")
    form = {e.attributes["name"]: e.attributes["value"] for e in page.all("input")}
    submit(browser, FEBRUARY, leads="77")

    response = browser.post(f"{FEBRUARY}/apagar", data=form, headers=SAME_ORIGIN)

    assert response.status_code == 409
    assert "Este mês mudou desde que você abriu a página." in Page(response.text).text
    assert "Leads 77" in Page(response.text).text
    assert len(stored_months(session)) == 2


def test_unchanged_month_is_deleted_by_its_confirmation(
    browser: FlaskClient, session: Session
) -> None:
    page = open_page(browser, f"{FEBRUARY}/apagar")
    form = {e.attributes["name"]: e.attributes["value"] for e in page.all("input")}

    submit(browser, f"{FEBRUARY}/apagar", **form)

    assert len(stored_months(session)) == 1


def test_deletion_form_opened_by_another_user_is_refused(
    browser: FlaskClient, session: Session
) -> None:
    response = browser.post(f"{FEBRUARY}/apagar", data={"mentorado": "0"}, headers=SAME_ORIGIN)

    assert (response.status_code, len(stored_months(session))) == (409, 2)


def test_deletion_from_another_site_is_refused(browser: FlaskClient, session: Session) -> None:
    response = browser.post(f"{FEBRUARY}/apagar", headers={"Origin": "https://evil.example"})

    assert (response.status_code, len(stored_months(session))) == (403, 2)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_month_without_a_report_cannot_be_deleted(browser: FlaskClient, method: str) -> None:
    response = browser.open("/metricas/2025/5/apagar", method=method, headers=SAME_ORIGIN)

    assert response.status_code == 404


def test_api_deletes_a_month_once(browser: FlaskClient, client: FlaskClient, sign: Sign) -> None:
    first, second = (client.delete(API, headers=sign(ALICE)) for _ in range(2))

    assert (first.status_code, first.data) == (204, b"")
    assert (second.status_code, second.get_json()["code"]) == (404, "not_found")
    assert "Fevereiro de 2026" in open_page(browser, "/perfil/meses").text


@pytest.mark.parametrize("month", ["2026/13", "2026/0", "1999/1", "2999/1", "2025/5"])
def test_api_finds_no_month_that_was_not_reported(
    browser: FlaskClient, client: FlaskClient, sign: Sign, month: str
) -> None:
    response = client.delete(f"/api/mentorados/me/metricas/{month}", headers=sign(ALICE))

    assert (response.status_code, response.get_json()["code"]) == (404, "not_found")


def test_every_month_is_listed_beyond_twelve(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    for mes in range(1, 13):
        session.add(MetricaMensal(mentorado_id=alice.id, ano=2025, mes=mes))
    session.commit()

    dashboard, page = open_page(browser), open_page(browser, "/perfil/meses")

    assert dashboard.link("Todos os meses") == "/perfil/meses"
    assert not dashboard.has_link("jan. 2025")
    assert page.link("jan. 2025") == "/dashboard?mes=2025-01"
    assert "14 meses registrados" in page.text


def test_csv_has_every_month_for_a_spreadsheet(browser: FlaskClient) -> None:
    response = browser.get("/perfil/meses.csv")

    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert "meses.csv" in response.headers["Content-Disposition"]
    assert response.data.decode() == (
        "\ufeffano;mês;faturamento;lucro;leads;procedimentos;posts no feed;stories;observações\r\n"
        "2026;2;12900;'-500;20;;;;\"'=1+1\nMês curto\"\r\n"
        "2026;1;9000;0;9;0;0;0;\r\n"
    )


def test_list_of_a_new_mentee_is_empty(browser_of: Browser) -> None:
    page = open_page(browser_of(BOB), "/perfil/meses")

    assert "Você ainda não registrou nenhum mês." in page.text
    assert not page.has_link("Baixar planilha (CSV)")
