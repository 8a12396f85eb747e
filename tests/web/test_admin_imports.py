"""Pre-registration in the admin console: shown line by line, then done as shown, once."""

import html
import io
import re
from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from blueprints.admin.imports import LARGEST_LIST_BYTES
from models import AdminJob, AuditEvent, Mentorado
from models.mentorado import Turma
from provisioning import jobs
from tests.support.types import Browser
from tests.support.users import ALICE, BOB
from web.problem_responses import LARGEST_FORM_BYTES
from web.services import Services

NEW = "/admin/mentorados/novos"
OURS = {"Origin": "http://localhost"}
LIST = re.compile(r'name="lista"[^>]*>\n(.*?)</textarea>', re.DOTALL)
KEY = re.compile(r'name="chave" value="([^"]+)"')
FORM = re.compile(r'action="([^"]+/confirmar)"')


OF_ALL_KINDS = """nome;e-mail
Eva;eva@example.com
Eva de novo; EVA@example.com
Alice;alice@example.com
Bob;bob@example.com
Fabio;fabio@example.com
Mal;sem arroba
Sem e-mail;
"""


def page_of(answer: TestResponse) -> str:
    return html.unescape(answer.get_data(as_text=True))


def send(desk: FlaskClient, content: str) -> TestResponse:
    file = (io.BytesIO(content.encode()), "lista.csv")
    return desk.post(NEW, data={"arquivo": file}, headers=OURS)


def rehearse(desk: FlaskClient, content: str) -> str:
    return page_of(send(desk, content))


def submit(desk: FlaskClient, shown: str, **changed: str) -> TestResponse:
    """Send the form of a preview."""
    content, key = LIST.search(shown), KEY.search(shown)
    assert content is not None
    assert key is not None
    sent = {"confirmado": "sim", "lista": content[1], "chave": key[1], "reason": "Turma de março"}
    return desk.post(NEW, data={**sent, **changed}, headers=OURS)


def confirm(desk: FlaskClient, shown: str) -> str:
    """Send the form of a preview, and return the page that it leads to."""
    answer = submit(desk, shown)
    assert answer.status_code == 303
    return page_of(desk.get(answer.location))


def a_list_of(number: int) -> str:
    lines = "\n".join(f"Pessoa {n};pessoa{n}@example.com" for n in range(number))
    return f"nome;e-mail\n{lines}"


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


@pytest.mark.parametrize("content", ["Eva;eva@example.com", "Eva;"], ids=["address", "none"])
def test_form_that_is_sent_twice_is_done_once(
    desk: FlaskClient, session: Session, content: str
) -> None:
    shown = rehearse(desk, f"nome;e-mail\n{content}")

    first, second = submit(desk, shown), submit(desk, shown)

    assert first.location == second.location
    assert "Feito: 1 de 1" in page_of(desk.get(second.location))
    assert profiles(session) == 1


def test_list_that_is_sent_again_finds_its_lines_there(desk: FlaskClient, session: Session) -> None:
    confirm(desk, rehearse(desk, "nome;e-mail\nEva;eva@example.com"))

    again = confirm(desk, rehearse(desk, "nome;e-mail\nEva;eva@example.com\nFabio;f@example.com"))

    assert "Feito: 1 de 2" in again
    assert profiles(session) == 2


def test_form_that_comes_back_with_another_list_does_nothing(
    desk: FlaskClient, session: Session
) -> None:
    shown = rehearse(desk, "nome;e-mail\nEva;eva@example.com")
    confirm(desk, shown)

    answer = submit(desk, shown, lista="nome;e-mail\nFabio;f@example.com")

    assert (answer.status_code, profiles(session)) == (409, 1)
    assert "já foi enviado com outra lista" in page_of(answer)


@pytest.mark.parametrize("key", ["", "x", "9" * 5_000])
def test_form_without_a_usable_key_is_done(desk: FlaskClient, session: Session, key: str) -> None:
    shown = rehearse(desk, "nome;e-mail\nEva;eva@example.com")

    assert submit(desk, shown, chave=key).status_code == 303
    assert profiles(session) == 1


def test_person_who_was_registered_finds_the_profile(
    desk: FlaskClient, browser_of: Browser
) -> None:
    shown = desk.post(NEW, data={"nome": 'Bob "B" Lima', "email": BOB.email}, headers=OURS)
    confirm(desk, html.unescape(shown.get_data(as_text=True)))

    mine = browser_of(BOB).get("/api/mentorados/me").json or {}

    assert mine["nome_completo"] == 'Bob "B" Lima'


def test_long_list_is_previewed_and_done_in_the_background(
    desk: FlaskClient, session: Session, services: Services
) -> None:
    content = a_list_of(10_000) + "\nMal;sem arroba"

    sent = send(desk, content)
    waiting = page_of(desk.get(sent.location))
    services.jobs.run_pending()
    shown = page_of(desk.get(sent.location))
    before = profiles(session)
    form = FORM.search(shown)
    assert form is not None
    confirmed = desk.post(form[1], data={"reason": "Turma de março"}, headers=OURS)
    services.jobs.run_pending()
    done = page_of(desk.get(confirmed.location))

    assert (sent.status_code, confirmed.status_code, before) == (303, 303, 0)
    assert "Conferindo a lista: 0 de 0" in waiting
    assert "O que será feito: 10.000 de 10.001" in shown
    assert results(shown)["10002"].startswith("email: Informe um e-mail válido")
    assert "sem arroba" in shown
    assert "Feito: 10.000 de 10.001" in done
    assert profiles(session) == 10_000
    assert session.scalars(select(func.count()).select_from(AuditEvent)).one() == 10_000


def test_long_list_that_is_confirmed_at_once_is_confirmed_once(
    desk: FlaskClient, session: Session, services: Services
) -> None:
    location = send(desk, a_list_of(501)).location
    services.jobs.run_pending()

    answers = [desk.post(f"{location}/confirmar", headers=OURS) for _ in range(2)]
    services.jobs.run_pending()
    late = desk.post(f"{location}/confirmar", headers=OURS)
    services.jobs.run_pending()

    assert [answer.status_code for answer in (*answers, late)] == [303, 303, 303]
    assert "Feito: 501 de 501" in page_of(desk.get(location))
    assert profiles(session) == 501


def test_list_is_deleted_when_it_is_done_and_nobody_is_named_in_what_stays(
    desk: FlaskClient, session: Session
) -> None:
    confirm(desk, rehearse(desk, OF_ALL_KINDS))

    job = session.scalars(select(AdminJob)).one()
    assert job.content is None
    assert "example.com" not in str(job.results)
    assert "Eva" not in str(job.results)


def test_preview_that_is_discarded_is_deleted(
    desk: FlaskClient, session: Session, services: Services
) -> None:
    location = send(desk, a_list_of(501)).location
    services.jobs.run_pending()

    desk.post(f"{location}/descartar", headers=OURS)

    assert session.scalars(select(AdminJob)).all() == []
    assert desk.get(location).status_code == 404
    assert desk.post(f"{location}/confirmar", headers=OURS).status_code == 404


def test_preview_that_nobody_confirms_is_deleted_after_a_day(
    desk: FlaskClient, session: Session, services: Services
) -> None:
    send(desk, a_list_of(501))
    services.jobs.run_pending()
    aged = AdminJob.created_at - timedelta(days=1, minutes=1)
    session.execute(update(AdminJob).values(created_at=aged))

    jobs.delete_old(session, services.now())

    assert session.scalars(select(AdminJob)).all() == []


def test_list_that_turns_out_unreadable_says_so(
    desk: FlaskClient, session: Session, services: Services
) -> None:
    location = send(desk, a_list_of(501) + '\n"' + ("x" * 19_000 + "\n") * 10).location

    services.jobs.run_pending()

    assert "A linha 509 não pode ser lida." in page_of(desk.get(location))
    assert session.scalars(select(AdminJob.content)).one() is None


def test_jobs_are_listed(desk: FlaskClient) -> None:
    location = submit(desk, rehearse(desk, "nome;e-mail\nEva;eva@example.com")).location

    listed = page_of(desk.get("/admin/tarefas"))

    assert location in listed
    assert "1 de 1" in listed


@pytest.mark.parametrize("path", ["0b7f7f8e-6a52-4a52-9d5c-111111111111", "x", "1"])
def test_unknown_job_is_not_found(desk: FlaskClient, path: str) -> None:
    assert desk.get(f"/admin/tarefas/{path}").status_code == 404


def test_character_that_no_database_keeps_is_a_fault_of_its_line(
    desk: FlaskClient, session: Session
) -> None:
    shown = rehearse(desk, "nome;e-mail\nE\x00va;eva@example.com\nFabio;f@example.com")

    assert results(shown)["2"].startswith("nome_completo")
    assert "Feito: 1 de 2" in confirm(desk, shown)


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


def test_larger_file_than_a_list_needs_is_refused(desk: FlaskClient) -> None:
    body, kind = b"x" * (LARGEST_LIST_BYTES + 1), "multipart/form-data; boundary=b"

    answer = desk.post(NEW, data=body, content_type=kind, headers=OURS)

    assert answer.status_code == 413


def test_larger_list_in_a_form_that_is_no_file_is_refused(desk: FlaskClient) -> None:
    answer = desk.post(NEW, data={"lista": "x" * (LARGEST_FORM_BYTES + 1)}, headers=OURS)

    assert answer.status_code == 413


def test_mentee_who_exists_is_named(desk: FlaskClient, alice: Mentorado) -> None:
    told = results(rehearse(desk, f"nome;e-mail\nOutra;{ALICE.email}"))

    assert told == {"2": f"Já existe: perfil nº {alice.id}"}
