"""Changes that take access or data away: apart, counted, confirmed, with a way back."""

import html
import re
from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from dev.fake_clerk import DevUser
from models import ArchivedRow, Feedback, Mentorado, MetricaMensal, User
from models.people import Role, Turma
from tests.support.html_page import SAME_ORIGIN, hidden_fields
from tests.support.types import Browser
from tests.support.users import ALICE
from web.job_runner import JobRunner

FIELDS = re.compile(r'id="([a-z_]+)" name="[a-z_]+" value="([^"]*)"')
DELETED = "/admin/mentorados/excluidos"
UNKNOWN_ID = 99_999
OTHER_ADMIN = DevUser("user_rita", "Rita Rocha", "rita@example.com")
INTERNALS = re.compile(r"metricas_mensais|feedbacks\b|user_id|mentorado_id|SQLSTATE")


@pytest.fixture
def other_console(session: Session, browser_of: Browser) -> FlaskClient:
    """The browser of another admin."""
    session.add(User(clerk_id=OTHER_ADMIN.clerk_id, name=OTHER_ADMIN.name, role=Role.ADMIN))
    session.commit()
    return browser_of(OTHER_ADMIN)


def page_of(response: TestResponse) -> str:
    return html.unescape(response.get_data(as_text=True))


def post(client: FlaskClient, path: str, **form: str) -> TestResponse:
    return client.post(path, data=form, headers=SAME_ORIGIN)


def preview(client: FlaskClient, path: str, **form: str) -> dict[str, str]:
    """Preview a change and return the hidden fields of its confirmation."""
    return hidden_fields(page_of(post(client, path, **form)))


def delete(client: FlaskClient, profile: Mentorado, name: str = "Alice Prado") -> TestResponse:
    path = f"/admin/mentorado/{profile.id}/excluir"
    return post(client, path, **preview(client, path), confirma_nome=name, reason="Saiu da turma")


def number_of(session: Session, table: type[MetricaMensal | Feedback | Mentorado]) -> int:
    return session.scalars(select(func.count()).select_from(table)).one()


def test_danger_is_in_a_closed_section_with_its_consequences_counted(
    console: FlaskClient, with_rows: Mentorado
) -> None:
    profile_page = page_of(console.get(f"/admin/mentorados/{with_rows.id}"))
    user_page = page_of(console.get(f"/admin/pessoas/{with_rows.user_id}"))

    for page, keys in (
        (profile_page, ("desativar", "desvincular", "excluir")),
        (user_page, ("bloquear", "desvincular")),
    ):
        before, _, section = page.partition('<details class="panel danger">')
        inside = section.partition("</details>")[0]
        assert [key for key in keys if f"/{key}" in before] == []
        assert [key for key in keys if f"/{key}" in inside] == list(keys)
        assert "8 meses e 1 feedback" in inside


def test_counts_of_a_profile_without_rows_are_words(console: FlaskClient, alice: Mentorado) -> None:
    page = page_of(console.get(f"/admin/mentorados/{alice.id}"))

    assert "São apagados: 0 meses e 0 feedbacks." in page


def test_rows_of_other_programs_are_counted(
    console: FlaskClient, with_rows: Mentorado, session: Session
) -> None:
    session.execute(text("CREATE TABLE ligacoes (m int REFERENCES mentorados ON DELETE CASCADE)"))
    session.execute(text(f"INSERT INTO ligacoes VALUES ({with_rows.id}), ({with_rows.id})"))
    session.commit()

    page = page_of(console.get(f"/admin/mentorado/{with_rows.id}/excluir"))

    assert "São apagados: 8 meses, 1 feedback e 2 registros de outro sistema." in page


@pytest.mark.parametrize("typed", ["", "Alice", "Bob Lima"])
def test_profile_is_not_deleted_without_its_name(
    console: FlaskClient, with_rows: Mentorado, session: Session, typed: str
) -> None:
    response = delete(console, with_rows, typed)

    page = page_of(response)
    assert (response.status_code, number_of(session, Mentorado)) == (422, 1)
    assert 'id="confirma_nome-erro">Digite «Alice Prado» para confirmar.' in page
    assert 'value="Saiu da turma"' in page


@pytest.mark.parametrize("typed", ["Alice Prado", " alice  PRADO ", "Álice Pradó"])
def test_name_may_be_typed_without_accents_and_capitals(
    console: FlaskClient, with_rows: Mentorado, session: Session, typed: str
) -> None:
    response = delete(console, with_rows, typed)

    assert (response.status_code, number_of(session, Mentorado)) == (303, 0)


def test_deleted_profile_is_restored_with_months_feedback_and_access(
    console: FlaskClient, with_rows: Mentorado, session: Session, browser_of: Browser
) -> None:
    location = delete(console, with_rows).location
    page, listed = page_of(console.get(location)), page_of(console.get(DELETED))
    denied = browser_of(ALICE).get("/dashboard").status_code

    response = post(console, location, reason="Foi engano")

    result = page_of(console.get(response.location))
    assert "8 meses e 1 feedback" in page
    assert f'href="{location}">Alice Prado</a>' in listed
    assert "Perfil restaurado, com tudo o que era dele." in result
    assert "Motivo: Foi engano" in result
    assert (number_of(session, MetricaMensal), number_of(session, Feedback)) == (8, 1)
    assert (denied, browser_of(ALICE).get("/dashboard").status_code) == (403, 200)


def test_profile_deleted_through_the_api_can_be_restored(
    client: FlaskClient,
    admin: dict[str, str],
    console: FlaskClient,
    with_rows: Mentorado,
    session: Session,
) -> None:
    deleted = client.delete(f"/api/admin/mentorados/{with_rows.id}", headers=admin)

    post(console, f"{DELETED}/{with_rows.id}")

    assert deleted.status_code == 204
    assert number_of(session, MetricaMensal) == 8


def test_second_click_on_restore_leads_to_the_profile(
    console: FlaskClient, with_rows: Mentorado
) -> None:
    location = delete(console, with_rows).location

    responses = [post(console, location) for _ in range(2)]

    assert [response.location for response in responses] == [
        f"/admin/mentorados/{with_rows.id}"
    ] * 2


def test_profile_cannot_be_restored_after_thirty_days(
    console: FlaskClient, with_rows: Mentorado, session: Session
) -> None:
    location = delete(console, with_rows).location
    session.execute(update(ArchivedRow).values(at=ArchivedRow.at - timedelta(days=30, minutes=1)))
    session.commit()

    assert post(console, location).status_code == 404
    assert "Nenhum nos últimos 30 dias." in page_of(console.get(DELETED))


def test_copies_of_deleted_profiles_are_deleted_by_the_job_runner(
    console: FlaskClient, with_rows: Mentorado, session: Session
) -> None:
    delete(console, with_rows)
    JobRunner({}, lambda *_: None).run_pending()
    kept = session.scalars(select(func.count()).select_from(ArchivedRow)).one()
    session.execute(update(ArchivedRow).values(at=ArchivedRow.at - timedelta(days=30, minutes=1)))
    session.commit()

    JobRunner({}, lambda *_: None).run_pending()

    assert kept == 10
    assert session.scalars(select(ArchivedRow.id)).all() == []


def test_restored_profile_whose_owner_uses_another_is_explained(
    console: FlaskClient, with_rows: Mentorado, session: Session, browser_of: Browser
) -> None:
    user_id = with_rows.user_id
    location = delete(console, with_rows).location
    path = f"/admin/pessoa/{user_id}/liberar"
    post(console, path, **preview(console, path))
    browser_of(ALICE).put(
        "/api/mentorados/me/metricas/2026/1", json={"leads": 1}, headers=SAME_ORIGIN
    )

    response = post(console, location)

    assert "Perfil restaurado sem dono" in page_of(console.get(response.location))
    assert browser_of(ALICE).get("/dashboard").status_code == 200


@pytest.mark.parametrize(
    ("key", "form", "message"),
    [
        ("vincular", {"pessoa": str(UNKNOWN_ID)}, "Não existe pessoa nº 99999."),
        ("unir", {"destino": str(UNKNOWN_ID)}, "Não existe perfil nº 99999."),
    ],
)
def test_wrong_number_is_an_error_of_its_field(
    console: FlaskClient, session: Session, key: str, form: dict[str, str], message: str
) -> None:
    profile = Mentorado(nome_completo="Eva", turma=Turma.NEON)
    session.add(profile)
    session.commit()
    path, [(field, number)] = f"/admin/mentorado/{profile.id}/{key}", form.items()

    for response in (post(console, path, **form), console.get(path, query_string=form)):
        page = page_of(response)
        assert response.status_code == 422
        assert f'id="{field}-erro">{message}' in page
        assert f'name="{field}" value="{number}"' in page


def test_preview_names_users_and_profiles(
    console: FlaskClient, with_rows: Mentorado, session: Session
) -> None:
    user = User(clerk_id="user_bia", name="Bia Nunes")
    waiting = Mentorado(nome_completo="Bia (lista)", turma=Turma.NEON)
    session.add_all([user, waiting])
    session.commit()
    pages = {
        "link": page_of(
            post(console, f"/admin/mentorado/{waiting.id}/vincular", pessoa=f"{user.id}")
        ),
        "merge": page_of(
            post(console, f"/admin/mentorado/{with_rows.id}/unir", destino=f"{waiting.id}")
        ),
        "unlink": page_of(console.get(f"/admin/mentorado/{with_rows.id}/desvincular")),
        "delete": page_of(console.get(f"/admin/mentorado/{with_rows.id}/excluir")),
    }

    assert f">Bia Nunes (nº {user.id})</td>" in pages["link"]
    assert f">Bia (lista) (nº {waiting.id})</td>" in pages["link"]
    assert f"</strong> Bia Nunes (pessoa nº {user.id})<" in pages["link"]
    assert re.search(r">Meses registrados</td><td [^>]*>0</td><td [^>]*>8<", pages["merge"])
    assert f">Alice Prado (nº {with_rows.user_id})</td><td" in pages["unlink"]
    assert [found for page in pages.values() for found in INTERNALS.findall(page)] == []


def test_change_by_another_admin_after_the_preview_is_named(
    console: FlaskClient, other_console: FlaskClient, alice: Mentorado
) -> None:
    path = f"/admin/mentorado/{alice.id}/desativar"
    hidden = preview(console, path)
    edit = f"/admin/mentorado/{alice.id}/corrigir"
    form = dict(FIELDS.findall(page_of(other_console.get(edit))))
    post(other_console, edit, **preview(other_console, edit, **{**form, "meta_leads": "70"}))

    response = post(console, path, **hidden)

    assert response.status_code == 409
    assert "Última mudança: «Perfil corrigido», por Rita Rocha, em " in page_of(response)


def test_edit_of_a_field_that_another_admin_has_changed_meanwhile_is_a_conflict(
    console: FlaskClient, other_console: FlaskClient, alice: Mentorado, session: Session
) -> None:
    edit = f"/admin/mentorado/{alice.id}/corrigir"
    mine, theirs = page_of(console.get(edit)), page_of(other_console.get(edit))
    sent = {**dict(FIELDS.findall(theirs)), "meta_leads": "70"}
    post(other_console, edit, **preview(other_console, edit, **sent))

    form = {**dict(FIELDS.findall(mine)), **hidden_fields(mine), "meta_posts": "33"}
    response = post(console, edit, **form)
    page = page_of(response)
    again = {**dict(FIELDS.findall(page)), **hidden_fields(page)}
    status = post(console, edit, **preview(console, edit, **again)).status_code

    session.refresh(alice)
    assert response.status_code == 409
    assert 'id="meta_leads-erro">mudou para «70» enquanto você editava.' in page
    assert "por Rita Rocha" in page
    assert (status, alice.meta_leads, alice.meta_posts) == (303, 70, 33)


def test_change_of_a_profile_that_was_deleted_meanwhile_leads_to_its_restoration(
    console: FlaskClient, other_console: FlaskClient, with_rows: Mentorado
) -> None:
    path = f"/admin/mentorado/{with_rows.id}/desativar"
    hidden = preview(console, path)
    delete(other_console, with_rows)

    responses = [post(console, path, **hidden), console.get(f"/admin/mentorados/{with_rows.id}")]

    assert [response.location for response in responses] == [f"{DELETED}/{with_rows.id}"] * 2
    assert "Rita Rocha" in page_of(console.get(f"{DELETED}/{with_rows.id}"))


def test_page_of_a_merged_profile_leads_to_the_kept_one(
    console: FlaskClient, alice: Mentorado, session: Session
) -> None:
    waiting = Mentorado(nome_completo="Alice (lista)", turma=Turma.NEON)
    session.add(waiting)
    session.commit()
    path, own_id = f"/admin/mentorado/{waiting.id}/unir", waiting.id
    post(console, path, **preview(console, path, destino=f"{alice.id}"))

    response = console.get(f"/admin/mentorados/{own_id}")

    assert response.location == f"/admin/mentorados/{alice.id}"
    assert "Este perfil foi unido a outro" in page_of(console.get(response.location))


@pytest.mark.parametrize(
    "path", [f"{DELETED}/1", f"{DELETED}/0", f"/admin/mentorados/{UNKNOWN_ID}"]
)
def test_profile_that_was_never_deleted_is_not_found(console: FlaskClient, path: str) -> None:
    assert console.get(path).status_code == 404
