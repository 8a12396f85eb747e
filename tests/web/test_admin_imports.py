"""Pre-registration in the admin console: a preview of each line, then one import as previewed."""

import csv
import html
import io
import re
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from blueprints.admin.mentees import MAX_LIST_BYTES
from models import AdminJob, AuditEvent, Mentorado
from models.people import Turma
from provisioning import jobs
from tests.support.html_page import SAME_ORIGIN
from tests.support.spreadsheets import inline, spreadsheet
from tests.support.types import Browser
from tests.support.users import ALICE, BOB
from web.problem_responses import MAX_FORM_BYTES
from web.services import Services

NEW = "/admin/mentorados/novos"
LIST = re.compile(r'name="lista"[^>]*>\n(.*?)</textarea>', re.DOTALL)
KEY = re.compile(r'name="chave" value="([^"]+)"')
FORM = re.compile(r'action="([^"]+/confirmar)"')


ALL_KINDS = """nome;e-mail
Eva;eva@example.com
Eva de novo; EVA@example.com
Alice;alice@example.com
Bob;bob@example.com
Fabio;fabio@example.com
Mal;sem arroba
Sem e-mail;
"""


def page_of(response: TestResponse) -> str:
    return html.unescape(response.get_data(as_text=True))


def send(console: FlaskClient, content: str) -> TestResponse:
    file = (io.BytesIO(content.encode()), "lista.csv")
    return console.post(NEW, data={"arquivo": file}, headers=SAME_ORIGIN)


def preview_of(console: FlaskClient, content: str) -> str:
    return page_of(send(console, content))


def submit(console: FlaskClient, preview: str, **changes: str) -> TestResponse:
    """Submit the form of a preview."""
    content, key = LIST.search(preview), KEY.search(preview)
    assert content is not None
    assert key is not None
    sent = {"confirmado": "sim", "lista": content[1], "chave": key[1], "reason": "Turma de março"}
    return console.post(NEW, data={**sent, **changes}, headers=SAME_ORIGIN)


def confirm(console: FlaskClient, preview: str) -> str:
    """Submit the form of a preview and return the page of the result."""
    response = submit(console, preview)
    assert response.status_code == 303
    return page_of(console.get(response.location))


def list_of(number: int) -> str:
    lines = "\n".join(f"Pessoa {n};pessoa{n}@example.com" for n in range(number))
    return f"nome;e-mail\n{lines}"


def results(page: str) -> dict[str, str]:
    row = r'<tr><th [^>]*data-label="Linha">(\d+)</th>.*?data-label="Resultado">([^<]*)</td>'
    cells = re.findall(row, page)
    return dict(cells)


def profiles(session: Session) -> int:
    return session.scalars(select(func.count()).select_from(Mentorado)).one()


def test_preview_shows_the_result_of_each_line(
    console: FlaskClient, alice: Mentorado, browser_of: Browser, session: Session
) -> None:
    bobs_id = (browser_of(BOB).get("/api/mentorados/me").json or {})["id"]
    session.add(Mentorado(nome_completo="Espera", email="fabio@example.com", turma=Turma.NEON))
    session.commit()
    before = profiles(session)

    line_results = results(preview_of(console, ALL_KINDS))

    assert profiles(session) == before
    assert line_results["2"] == line_results["8"] == "Será pré-cadastrado"
    assert line_results["3"] == "Repete o e-mail da linha 2"
    assert line_results["4"] == f"Já existe: Alice Prado (perfil nº {alice.id})"
    assert line_results["5"] == (
        f"Vai completar o perfil automático, ainda sem uso: Bob Lima (perfil nº {bobs_id})"
    )
    assert line_results["6"].startswith("Já existe: Espera (perfil nº")
    assert line_results["7"].startswith("E-mail: Informe um e-mail válido")


@pytest.mark.parametrize("line", ['"";""', "\u00a0;\u00a0"], ids=["quotes", "hard-blanks"])
def test_list_whose_lines_have_no_text_is_answered_with_an_error(
    console: FlaskClient, line: str
) -> None:
    response = send(console, f"nome;e-mail\n{line}\n")

    assert response.status_code == 422
    assert "A lista só tem os títulos" in page_of(response)


def test_confirmed_list_is_imported_as_previewed_and_audited(
    console: FlaskClient, browser_of: Browser, session: Session
) -> None:
    mentee = browser_of(BOB)
    mentee.get("/dashboard")
    preview = preview_of(
        console, "nome;e-mail;meta_leads\nEva;eva@example.com;70\nBob L.;bob@example.com;9"
    )

    result_page = confirm(console, preview)

    events = session.scalars(select(AuditEvent).where(AuditEvent.event == "admin_action")).all()
    assert "Feito: 2 de 2" in result_page
    assert (mentee.get("/api/mentorados/me").json or {})["meta_leads"] == 9
    assert {(e.details or {})["reason"] for e in events} == {"Turma de março"}
    assert len(events) == 2


@pytest.mark.parametrize("content", ["Eva;eva@example.com", "Eva;"], ids=["address", "none"])
def test_list_submitted_twice_is_imported_once(
    console: FlaskClient, session: Session, content: str
) -> None:
    preview = preview_of(console, f"nome;e-mail\n{content}")

    first, second = submit(console, preview), submit(console, preview)

    assert first.location == second.location
    assert "Feito: 1 de 1" in page_of(console.get(second.location))
    assert profiles(session) == 1


def test_second_import_skips_existing_lines(console: FlaskClient, session: Session) -> None:
    confirm(console, preview_of(console, "nome;e-mail\nEva;eva@example.com"))

    second = confirm(
        console, preview_of(console, "nome;e-mail\nEva;eva@example.com\nFabio;f@example.com")
    )

    assert "Feito: 1 de 2" in second
    assert profiles(session) == 2


def test_used_key_with_another_list_is_refused(console: FlaskClient, session: Session) -> None:
    preview = preview_of(console, "nome;e-mail\nEva;eva@example.com")
    confirm(console, preview)

    response = submit(console, preview, lista="nome;e-mail\nFabio;f@example.com")

    assert (response.status_code, profiles(session)) == (409, 1)
    assert "já foi enviado com outra lista" in page_of(response)


@pytest.mark.parametrize("key", ["", "x", "9" * 5_000])
def test_list_without_a_valid_key_is_imported(
    console: FlaskClient, session: Session, key: str
) -> None:
    preview = preview_of(console, "nome;e-mail\nEva;eva@example.com")

    assert submit(console, preview, chave=key).status_code == 303
    assert profiles(session) == 1


def test_registered_user_is_linked_to_the_profile(
    console: FlaskClient, browser_of: Browser
) -> None:
    preview = console.post(
        NEW, data={"nome": 'Bob "B" Lima', "email": BOB.email}, headers=SAME_ORIGIN
    )
    confirm(console, html.unescape(preview.get_data(as_text=True)))

    own_profile = browser_of(BOB).get("/api/mentorados/me").json or {}

    assert own_profile["nome_completo"] == 'Bob "B" Lima'


def test_long_list_is_previewed_and_imported_in_the_background(
    console: FlaskClient, session: Session, services: Services
) -> None:
    content = list_of(3_000) + "\nMal;sem arroba"

    sent = send(console, content)
    running_page = page_of(console.get(sent.location))
    services.jobs.run_pending()
    preview = page_of(console.get(sent.location))
    before = profiles(session)
    form = FORM.search(preview)
    assert form is not None
    confirmation = console.post(form[1], data={"reason": "Turma de março"}, headers=SAME_ORIGIN)
    services.jobs.run_pending()
    result_page = page_of(console.get(confirmation.location))

    assert (sent.status_code, confirmation.status_code, before) == (303, 303, 0)
    assert "Conferindo a lista: 0 de 0" in running_page
    assert "O que será feito: 3.000 de 3.001" in preview
    assert results(preview)["3002"].startswith("E-mail: Informe um e-mail válido")
    assert "sem arroba" in preview
    assert "Feito: 3.000 de 3.001" in result_page
    assert profiles(session) == 3_000
    assert session.scalars(select(func.count()).select_from(AuditEvent)).one() == 3_000


def test_long_list_confirmed_twice_is_imported_once(
    console: FlaskClient, session: Session, services: Services
) -> None:
    location = send(console, list_of(501)).location
    services.jobs.run_pending()

    responses = [console.post(f"{location}/confirmar", headers=SAME_ORIGIN) for _ in range(2)]
    services.jobs.run_pending()
    third_response = console.post(f"{location}/confirmar", headers=SAME_ORIGIN)
    services.jobs.run_pending()

    assert [response.status_code for response in (*responses, third_response)] == [303, 303, 303]
    assert "Feito: 501 de 501" in page_of(console.get(location))
    assert profiles(session) == 501


def test_list_is_deleted_after_the_import_and_results_contain_no_names(
    console: FlaskClient, session: Session
) -> None:
    confirm(console, preview_of(console, ALL_KINDS))

    job = session.scalars(select(AdminJob)).one()
    assert job.content is None
    assert "example.com" not in str(job.results)
    assert "Eva" not in str(job.results)


def test_discarded_preview_is_deleted(
    console: FlaskClient, session: Session, services: Services
) -> None:
    location = send(console, list_of(501)).location
    services.jobs.run_pending()

    console.post(f"{location}/descartar", headers=SAME_ORIGIN)

    assert session.scalars(select(AdminJob)).all() == []
    assert console.get(location).status_code == 404
    assert console.post(f"{location}/confirmar", headers=SAME_ORIGIN).status_code == 404


def test_unconfirmed_preview_is_deleted_after_a_day(
    console: FlaskClient, session: Session, services: Services
) -> None:
    send(console, list_of(501))
    services.jobs.run_pending()
    yesterday = AdminJob.created_at - timedelta(days=1, minutes=1)
    session.execute(update(AdminJob).values(created_at=yesterday))

    jobs.delete_old(session, services.now())

    assert session.scalars(select(AdminJob)).all() == []


def test_unreadable_line_of_a_long_list_is_named(
    console: FlaskClient, session: Session, services: Services
) -> None:
    location = send(console, list_of(501) + '\n"' + ("x" * 19_000 + "\n") * 10).location

    services.jobs.run_pending()

    assert "A linha 509 não pode ser lida." in page_of(console.get(location))
    assert session.scalars(select(AdminJob.content)).one() is None


def test_jobs_are_listed(console: FlaskClient) -> None:
    location = submit(console, preview_of(console, "nome;e-mail\nEva;eva@example.com")).location

    listed = page_of(console.get("/admin/tarefas"))

    assert location in listed
    assert "1 de 1" in listed


@pytest.mark.parametrize("path", ["0b7f7f8e-6a52-4a52-9d5c-111111111111", "x", "1"])
def test_unknown_job_is_not_found(console: FlaskClient, path: str) -> None:
    assert console.get(f"/admin/tarefas/{path}").status_code == 404


def test_nul_character_is_an_error_of_its_line(console: FlaskClient, session: Session) -> None:
    preview = preview_of(console, "nome;e-mail\nE\x00va;eva@example.com\nFabio;f@example.com")

    assert results(preview)["2"].startswith("Nome:")
    assert "Feito: 1 de 2" in confirm(console, preview)


@pytest.mark.parametrize(
    ("sent", "message"),
    [({}, "Escolha um arquivo"), ({"lista": "a;b\nc;d"}, "títulos das colunas")],
)
def test_invalid_list_is_shown_again_with_a_message(
    console: FlaskClient, sent: dict[str, str], message: str
) -> None:
    response = console.post(NEW, data=sent, headers=SAME_ORIGIN)

    assert response.status_code == 422
    assert message in response.get_data(as_text=True)


def test_too_large_file_is_refused(console: FlaskClient) -> None:
    body, kind = b"x" * (MAX_LIST_BYTES + 1), "multipart/form-data; boundary=b"

    response = console.post(NEW, data=body, content_type=kind, headers=SAME_ORIGIN)

    assert response.status_code == 413


def test_too_large_list_in_a_form_field_is_refused(console: FlaskClient) -> None:
    response = console.post(NEW, data={"lista": "x" * (MAX_FORM_BYTES + 1)}, headers=SAME_ORIGIN)

    assert response.status_code == 413


ODD_COLUMNS = """Nome completo;Telefone;E-mail;Email;Meta de leads;Meta faturamento
Eva;11;eva@example.com;x@example.com;70;R$ 25.000,00
Mal;=1+1;sem arroba;;;
"""


def rows_of(response: TestResponse) -> list[list[str]]:
    """The rows of a CSV download; a byte order mark tells Excel that it is UTF-8."""
    assert response.content_type == "text/csv; charset=utf-8"
    assert response.headers["Content-Disposition"].startswith("attachment; filename=")
    text = response.get_data(as_text=True)
    assert text.startswith("\ufeff")
    return list(csv.reader(io.StringIO(text[1:]), delimiter=";"))


def test_preview_shows_goals_and_columns_that_are_not_read(console: FlaskClient) -> None:
    preview = preview_of(console, ODD_COLUMNS)

    goals = "R$\u00a025.000 · 70 leads · 10 procedimentos · 12 posts · 60 stories"
    assert f'data-label="Metas">{goals}</td>' in preview
    assert "Coluna ignorada:</strong> «Telefone»." in preview
    assert "Coluna repetida:</strong> «Email»." in preview


def test_page_of_a_long_list_shows_goals_and_columns_that_are_not_read(
    console: FlaskClient, services: Services
) -> None:
    lines = "\n".join(f"Pessoa {n};11;p{n}@example.com;;9;" for n in range(501))
    location = send(console, f"{ODD_COLUMNS}{lines}").location
    services.jobs.run_pending()

    preview = page_of(console.get(location))

    assert "· 70 leads ·" in preview
    assert "Coluna ignorada:</strong> «Telefone»." in preview
    assert len(results(preview)) == 20


def test_rejected_lines_of_a_preview_can_be_downloaded(console: FlaskClient) -> None:
    content = LIST.search(preview_of(console, ODD_COLUMNS))
    assert content is not None

    response = console.post(f"{NEW}/recusadas", data={"lista": content[1]}, headers=SAME_ORIGIN)

    titles, *rows = rows_of(response)
    assert titles == [*ODD_COLUMNS.split("\n", maxsplit=1)[0].split(";"), "Motivo"]
    assert rows == [
        [
            "Mal",
            "'=1+1",
            "sem arroba",
            "",
            "",
            "",
            "E-mail: Informe um e-mail válido, com até 320 caracteres.",
        ]
    ]


def test_rejected_lines_of_an_import_can_be_downloaded_for_a_day(
    console: FlaskClient, session: Session, services: Services
) -> None:
    location = submit(console, preview_of(console, ODD_COLUMNS)).location

    page = page_of(console.get(location))
    rows = rows_of(console.get(f"{location}/recusadas.csv"))
    yesterday = AdminJob.created_at - timedelta(days=1, minutes=1)
    session.execute(update(AdminJob).values(created_at=yesterday))
    jobs.delete_old(session, services.now())
    session.commit()

    assert f'href="{location}/recusadas.csv" download>Baixar a linha recusada (CSV)' in page
    later_page = page_of(console.get(location))
    assert [row[0] for row in rows] == ["Nome completo", "Mal"]
    assert (">Mal<" in page, ">sem arroba<" in page) == (True, True)
    assert (">Mal<" in later_page, "Baixar" in later_page) == (False, False)
    assert len(rows_of(console.get(f"{location}/recusadas.csv"))) == 1


@pytest.mark.parametrize("content", ["", "x;y\nz", "nome;e-mail", list_of(501)])
def test_download_without_the_list_of_a_preview_is_refused(
    console: FlaskClient, content: str
) -> None:
    response = console.post(f"{NEW}/recusadas", data={"lista": content}, headers=SAME_ORIGIN)

    assert response.status_code == 422


def test_corrected_rejected_lines_can_be_imported(console: FlaskClient) -> None:
    location = submit(console, preview_of(console, ODD_COLUMNS)).location
    rejected = console.get(f"{location}/recusadas.csv").get_data(as_text=True)

    preview = preview_of(console, rejected.replace("sem arroba", "mal@example.com"))

    assert results(preview) == {"2": "Será pré-cadastrado"}


def test_template_has_all_columns_and_no_lines(console: FlaskClient) -> None:
    [titles] = rows_of(console.get(f"{NEW}/modelo.csv"))

    preview = preview_of(console, ";".join(titles) + "\nEva;eva@example.com;1;2;3;4;5")

    assert "R$\u00a01 · 2 leads · 3 procedimentos · 4 posts · 5 stories" in preview
    assert "ignorada" not in preview


def test_small_spreadsheet_is_imported(console: FlaskClient, session: Session) -> None:
    rows = f"<row>{inline('Nome completo', 'E-mail')}</row><row>{inline('Eva', 'e@x.com')}</row>"
    file = (io.BytesIO(spreadsheet(rows)), "turma.xlsx")

    preview = page_of(console.post(NEW, data={"arquivo": file}, headers=SAME_ORIGIN))

    assert "Feito: 1 de 1" in confirm(console, preview)
    assert session.scalars(select(Mentorado.email)).one() == "e@x.com"


def test_long_spreadsheet_is_imported_by_a_job(
    console: FlaskClient, session: Session, services: Services
) -> None:
    people = (f"<row>{inline(f'P {n}', f'p{n}@x.com')}</row>" for n in range(3_000))
    content = spreadsheet(f"<row>{inline('Nome', 'E-mail', 'Cidade')}</row>{''.join(people)}")
    file = (io.BytesIO(content), "turma.xlsx")

    location = console.post(NEW, data={"arquivo": file}, headers=SAME_ORIGIN).location
    services.jobs.run_pending()
    preview = page_of(console.get(location))
    console.post(f"{location}/confirmar", headers=SAME_ORIGIN)
    services.jobs.run_pending()

    assert "O que será feito: 3.000 de 3.000" in preview
    assert "Coluna ignorada:</strong> «Cidade»." in preview
    assert profiles(session) == 3_000


def test_unreadable_file_is_named(console: FlaskClient) -> None:
    file = (io.BytesIO(b"\xd0\xcf\x11\xe0\xa1\xb1"), "turma.xls")

    response = console.post(NEW, data={"arquivo": file}, headers=SAME_ORIGIN)

    assert response.status_code == 422
    assert "Isto é uma planilha antiga do Excel (.xls)" in page_of(response)


@pytest.mark.parametrize(
    ("typed", "field", "message"),
    [
        ({"nome": "Eva Melo", "email": "sem arroba"}, "email", "Informe um e-mail válido"),
        ({"nome": " ", "email": "eva@example.com"}, "nome", "Informe um nome"),
        ({"nome": "Eva Melo", "email": ALICE.email}, "email", "Já existe um perfil"),
    ],
)
def test_form_for_one_mentee_keeps_what_was_typed(
    console: FlaskClient,
    alice: Mentorado,
    typed: dict[str, str],
    field: str,
    message: str,
) -> None:
    response = console.post(NEW, data=typed, headers=SAME_ORIGIN)

    page = page_of(response)
    assert response.status_code == 422
    assert f'id="{field}-erro">{message}' in page
    for name, value in typed.items():
        assert re.search(f'name="{name}" type="[a-z]+" value="{value}"', page)
    assert (f'href="/admin/mentorados/{alice.id}"' in page) == (message == "Já existe um perfil")


def test_expired_session_keeps_the_form_of_a_list(app: Flask, console: FlaskClient) -> None:
    """Its largest list fits, because the page sends it again without escapes."""
    names = "\n".join(f"{'Érica ' * 30}{n};p{n}@example.com" for n in range(480))
    preview = preview_of(console, f"nome;e-mail\n{names}")
    content = LIST.search(preview)
    assert content is not None
    form = {"confirmado": "sim", "lista": content[1]}

    answer = app.test_client().post(
        NEW, data=form, headers=SAME_ORIGIN, content_type="multipart/form-data"
    )

    page = page_of(answer)
    assert answer.status_code == 401
    assert f'action="{NEW}" enctype="multipart/form-data">' in page
    assert "p479@example.com" in page


def test_expired_session_page_does_not_mention_an_uploaded_file(app: Flask) -> None:
    file = (io.BytesIO(b"nome\nEva"), "lista.csv")

    answer = app.test_client().post(NEW, data={"arquivo": file}, headers=SAME_ORIGIN)

    assert answer.status_code == 401
    assert "se perdeu" not in page_of(answer)


def test_existing_profile_is_named(console: FlaskClient, alice: Mentorado) -> None:
    line_results = results(preview_of(console, f"nome;e-mail\nOutra;{ALICE.email}"))

    assert line_results == {"2": f"Já existe: Alice Prado (perfil nº {alice.id})"}
