"""The audit log as a page and as CSV: names, filters and pages."""

import csv
import html
import io
import re
from datetime import UTC, datetime

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import AuditEvent, Mentorado, User
from tests.support.users import CHARLIE

CODE = "0f3a9c21b7d04e558f10aa22bb33cc44"


@pytest.fixture
def events(session: Session, alice: Mentorado, console: FlaskClient) -> None:
    """A correction of Alice's profile by Charlie, and the creation of a profile that is gone."""
    charlie = session.scalars(select(User).where(User.clerk_id == CHARLIE.clerk_id)).one()
    charlie.name = "Charlie Reis"
    details = {
        "action": "edit",
        "before": {"meta_leads": 50},
        "after": {"meta_leads": 60},
        "reason": "=pedido",
    }
    session.add_all(
        [
            AuditEvent(
                at=datetime(2026, 1, 5, 2, 0, tzinfo=UTC),  # still the fourth in Brasília
                event="mentorado_created",
                entry="sweep",
                mentorado_id=999_999,
            ),
            AuditEvent(
                at=datetime(2026, 1, 6, 12, 0, tzinfo=UTC),
                event="admin_action",
                entry="admin",
                actor_id=charlie.id,
                user_id=alice.user_id,
                mentorado_id=alice.id,
                request_id=CODE,
                details=details,
            ),
        ]
    )
    session.commit()


def rows_of(console: FlaskClient, query: str = "") -> list[str]:
    """The text of each row of the page."""
    response = console.get(f"/admin/registro?{query}")
    assert response.status_code == 200
    page = html.unescape(response.get_data(as_text=True))
    rows = re.findall(r"<tr>(.*?)</tr>", page.partition("<tbody>")[2], re.DOTALL)
    return [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in rows]


@pytest.mark.usefixtures("events")
def test_page_names_who_changed_what_of_whom(console: FlaskClient) -> None:
    edited, created = rows_of(console)

    assert edited == (
        "06/01/2026, às 09h00 Perfil corrigido Alice Prado Charlie Reis "
        "Motivo: =pedido; Meta de leads: 50 → 60 0f3a9c21"
    )
    assert "Perfil criado perfil nº 999999, que não existe mais varredura" in created


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("kind=edit", ["corrigido"]),
        ("kind=mentorado_created", ["criado"]),
        ("q=prado", ["corrigido"]),
        ("q=charlie", ["corrigido"]),
        ("since=2026-01-05", ["corrigido"]),
        ("since=0001-01-01", ["corrigido", "criado"]),
        ("until=2026-01-04", ["criado"]),
        ("since=2026-01-04&until=2026-01-06", ["corrigido", "criado"]),
        ("q=zulmira", ["Nada"]),
    ],
)
def test_page_is_filtered(console: FlaskClient, query: str, expected: list[str]) -> None:
    rows = rows_of(console, query)

    assert [word for row in rows for word in ("corrigido", "criado", "Nada") if word in row] == (
        expected
    )


@pytest.mark.parametrize(
    "query", ["since=ontem", "until=2026-02-30", "until=9999-12-31", "cursor=x"]
)
def test_invalid_filter_is_refused(console: FlaskClient, query: str) -> None:
    assert console.get(f"/admin/registro?{query}").status_code == 422


def test_pages_lead_to_older_events(console: FlaskClient, session: Session) -> None:
    session.add_all(AuditEvent(event=f"e{number}", entry="cli") for number in range(60))
    session.commit()
    page = html.unescape(console.get("/admin/registro").get_data(as_text=True))
    [older] = re.findall(r'href="/admin/registro\?([^"]+)" rel="next"', page)

    assert len(rows_of(console)) == 50
    assert len(rows_of(console, older)) == 10


@pytest.mark.usefixtures("events")
def test_log_is_downloaded_as_csv_with_names(client: FlaskClient, admin: dict[str, str]) -> None:
    response = client.get("/api/admin/audit.csv?kind=edit", headers=admin)

    lines = list(csv.reader(io.StringIO(response.get_data(as_text=True)), delimiter=";"))
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert lines[0][:2] == ["\ufeffNúmero", "Quando"]
    assert [line[1:] for line in lines[1:]] == [
        [
            "2026-01-06 09:00:00",
            "Perfil corrigido",
            "Charlie Reis",
            "Alice Prado",
            "Alice Prado",
            "administração",
            "Motivo: =pedido; Meta de leads: 50 → 60",
            CODE,
        ]
    ]
