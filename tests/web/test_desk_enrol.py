"""Pre-registration at the desk: rehearsed line by line, then done as rehearsed."""

import html
import io
import re

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import AuditEvent, Mentorado
from models.mentorado import Turma
from tests.cast import ALICE, BOB
from tests.fixtures import Browser

NEW = "/admin/mentorados/novos"
OURS = {"Origin": "http://localhost"}
LIST = re.compile(r'name="lista"[^>]*>\n(.*?)</textarea>', re.DOTALL)


OF_ALL_KINDS = """nome;e-mail
Eva;eva@example.com
Eva de novo; EVA@example.com
Alice;alice@example.com
Bob;bob@example.com
Fabio;fabio@example.com
Mal;sem arroba
Sem e-mail;
"""


def rehearse(desk: FlaskClient, content: str) -> str:
    file = (io.BytesIO(content.encode()), "lista.csv")
    answer = desk.post(NEW, data={"arquivo": file}, headers=OURS)
    return html.unescape(answer.get_data(as_text=True))


def confirm(desk: FlaskClient, shown: str) -> str:
    found = LIST.search(shown)
    assert found is not None
    sent = {"confirmado": "sim", "lista": found[1], "reason": "Turma de março"}
    return html.unescape(desk.post(NEW, data=sent, headers=OURS).get_data(as_text=True))


def results(page: str) -> dict[str, str]:
    cells = re.findall(r"<tr><th scope=\"row\">(\d+)</th>.*?<td>([^<]*)</td></tr>", page)
    return dict(cells)


def profiles(session: Session) -> int:
    return session.scalars(select(func.count()).select_from(Mentorado)).one()


def test_every_line_is_told_what_would_come_of_it(
    desk: FlaskClient, alice: Mentorado, browser_of: Browser, session: Session
) -> None:
    bobs = (browser_of(BOB).get("/api/mentorados/me").json or {})["id"]
    session.add(Mentorado(nome_completo="Espera", email="fabio@example.com", turma=Turma.NEON))
    session.commit()
    before = profiles(session)

    told = results(rehearse(desk, OF_ALL_KINDS))

    assert profiles(session) == before
    assert told["2"] == told["8"] == "Será pré-cadastrado"
    assert told["3"] == "Repete o e-mail da linha 2"
    assert told["4"] == f"Já existe: perfil nº {alice.id}"
    assert told["5"] == f"Vai completar o perfil automático nº {bobs}, ainda sem uso"
    assert told["6"].startswith("Já existe: perfil nº")
    assert told["7"].startswith("email: Informe um e-mail válido")


def test_confirmed_list_is_done_as_rehearsed_and_on_record(
    desk: FlaskClient, browser_of: Browser, session: Session
) -> None:
    mentee = browser_of(BOB)
    mentee.get("/dashboard")
    shown = rehearse(
        desk, "nome;e-mail;meta_leads\nEva;eva@example.com;70\nBob L.;bob@example.com;9"
    )

    done = confirm(desk, shown)

    events = session.scalars(select(AuditEvent).where(AuditEvent.event == "admin_action")).all()
    assert "Feito: 2 de 2" in done
    assert (mentee.get("/api/mentorados/me").json or {})["meta_leads"] == 9
    assert {(e.details or {})["reason"] for e in events} == {"Turma de março"}
    assert len(events) == 2


def test_list_that_is_confirmed_twice_is_done_once(desk: FlaskClient, session: Session) -> None:
    shown = rehearse(desk, "nome;e-mail\nEva;eva@example.com")

    confirm(desk, shown)
    again = confirm(desk, shown)

    assert "Feito: 0 de 1" in again
    assert profiles(session) == 1


def test_person_who_was_registered_finds_the_profile(
    desk: FlaskClient, browser_of: Browser
) -> None:
    shown = desk.post(NEW, data={"nome": 'Bob "B" Lima', "email": BOB.email}, headers=OURS)
    confirm(desk, html.unescape(shown.get_data(as_text=True)))

    mine = browser_of(BOB).get("/api/mentorados/me").json or {}

    assert mine["nome_completo"] == 'Bob "B" Lima'


def test_ten_thousand_lines_are_one_request(desk: FlaskClient, session: Session) -> None:
    lines = "\n".join(f"Pessoa {n};pessoa{n}@example.com" for n in range(10_000))

    done = confirm(desk, rehearse(desk, f"nome;e-mail\n{lines}"))

    assert "Feito: 10.000 de 10.000" in done
    assert profiles(session) == 10_000
    assert session.scalars(select(func.count()).select_from(AuditEvent)).one() == 10_000


@pytest.mark.parametrize(
    ("sent", "message"),
    [({}, "Escolha um arquivo"), ({"lista": "a;b\nc;d"}, "títulos das colunas")],
)
def test_what_is_no_list_is_asked_for_again(
    desk: FlaskClient, sent: dict[str, str], message: str
) -> None:
    answer = desk.post(NEW, data=sent, headers=OURS)

    assert answer.status_code == 422
    assert message in answer.get_data(as_text=True)


def test_list_beyond_all_measure_is_refused(desk: FlaskClient) -> None:
    answer = desk.post(NEW, data={"lista": "x" * 5_000_000}, headers=OURS)

    assert answer.status_code == 413


def test_mentee_who_exists_is_named(desk: FlaskClient, alice: Mentorado) -> None:
    told = results(rehearse(desk, f"nome;e-mail\nOutra;{ALICE.email}"))

    assert told == {"2": f"Já existe: perfil nº {alice.id}"}
