"""The search on every page of the console."""

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from models import Mentorado, User
from models.people import Turma
from tests.support.html_page import page_of
from tests.support.types import Browser
from tests.support.users import BOB
from web.services import Services


@pytest.fixture
def people(session: Session) -> dict[str, int]:
    """An account with a profile, an account without one, and a pre-registered profile."""
    users = [
        User(clerk_id="user_camila", name="Camila Rocha", email="camila@example.com"),
        User(clerk_id="user_other", name="Camila Reis"),
    ]
    session.add_all(users)
    session.flush()  # the profile needs the id
    waiting = Mentorado(nome_completo="Camila São João", turma=Turma.NEON)
    own = Mentorado(nome_completo="Camila Rocha", user_id=users[0].id, turma=Turma.NEON)
    session.add_all([own, waiting])
    session.commit()
    return {"rocha": users[0].id, "reis": users[1].id, "joão": waiting.id}


@pytest.mark.parametrize("path", ["/admin", "/admin/pessoas", "/admin/registro", "/admin/sistema"])
def test_every_page_has_the_search(console: FlaskClient, path: str) -> None:
    assert '<form method="get" action="/admin/busca"' in page_of(console, path)


@pytest.mark.usefixtures("people")
def test_accounts_and_profiles_are_found_together(console: FlaskClient) -> None:
    page = page_of(console, "/admin/busca?q=camila")

    assert page.index("Com conta") < page.index("Camila Rocha") < page.index("Camila Reis")
    assert page.index("Pré-cadastros, ainda sem conta") < page.index("Camila São João")
    assert page.count(">Camila Rocha</a>") == 1


@pytest.mark.parametrize(
    ("query", "location"),
    [
        ("rocha camila", "/admin/pessoas/{rocha}"),
        ("camila@example.com", "/admin/pessoas/{rocha}"),
        ("user_other", "/admin/pessoas/{reis}"),
        ("sao joao", "/admin/mentorados/{joão}"),
    ],
)
def test_single_result_is_opened_at_once(
    console: FlaskClient, people: dict[str, int], query: str, location: str
) -> None:
    response = console.get("/admin/busca", query_string={"q": query})

    assert (response.status_code, response.location) == (302, location.format(**people))


@pytest.mark.parametrize(
    ("query", "text"), [("ninguém", "Nada encontrado"), ("", "bastam os 8 primeiros caracteres")]
)
def test_no_result_says_what_to_try(console: FlaskClient, query: str, text: str) -> None:
    assert text in page_of(console, f"/admin/busca?q={query}")


def test_first_eight_characters_of_a_code_on_a_screen_find_the_account(
    console: FlaskClient, services: Services, session: Session
) -> None:
    session.add(User(clerk_id=BOB.clerk_id, name=BOB.name))
    session.commit()
    code = "77aa88bb99cc00dd11ee22ff33445566"
    services.provisioning.contexts.store_reference(code, BOB.clerk_id)

    found = [console.get(f"/admin/busca?q={text}").location for text in (code, code[:8])]

    assert found[0] == found[1]
    assert "/admin/pessoas/" in found[0]


def test_search_is_for_admins_only(browser_of: Browser) -> None:
    assert browser_of(BOB).get("/admin/busca?q=a").status_code == 403
