"""«É a mesma pessoa»: from an account's page to one confirmation, and what the other user sees."""

import re

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Mentorado, MetricaMensal, User
from models.people import Turma
from tests.support.html_page import SAME_ORIGIN, hidden_fields, page_of
from tests.support.types import Browser
from tests.support.users import ALICE, BOB, NOW


@pytest.fixture
def bob(session: Session, alice: Mentorado) -> User:
    """A second account of Alice, with a month of its own."""
    user = User(clerk_id=BOB.clerk_id, name="Alice Prado", email=BOB.email, email_verified=True)
    session.add(user)
    session.flush()  # the profile needs the id
    profile = Mentorado(
        user_id=user.id, nome_completo="Alice P.", email=BOB.email, turma=Turma.NEON, edited_at=NOW
    )
    session.add(profile)
    session.flush()  # the month needs the id
    session.add(MetricaMensal(mentorado_id=profile.id, ano=2026, mes=1, faturamento=5_000))
    session.commit()
    return user


def link_of(page: str, text: str) -> str:
    """The address of the first link with this text or accessible name."""
    found = re.search(rf'<a [^>]*href="([^"]+)"(?: aria-label="{text}[^"]*"|[^>]*>{text})', page)
    assert found, text
    return found[1]


def test_other_account_is_told_which_address_to_use(
    console: FlaskClient, alice: Mentorado, bob: User, session: Session, browser_of: Browser
) -> None:
    account = page_of(console, f"/admin/pessoas/{alice.user_id}")
    choose = page_of(console, link_of(account, "É a mesma pessoa"))
    pair = page_of(console, link_of(choose, "Escolher Alice Prado"))

    response = console.post("/admin/mesma-pessoa", data=hidden_fields(pair), headers=SAME_ORIGIN)

    dashboard = page_of(browser_of(BOB), "/dashboard")
    session.expire_all()
    month = session.scalars(select(MetricaMensal)).one()
    assert "Tudo passa para a conta de alice@example.com." in pair
    assert "1 mês, 0 feedbacks" in pair
    assert (response.status_code, response.location) == (303, f"/admin/pessoas/{alice.user_id}")
    assert month.mentorado_id == alice.id
    assert "Entre com al•••@example.com." in dashboard
    assert browser_of(ALICE).get("/dashboard").status_code == 200


def test_account_that_stays_can_be_swapped(
    console: FlaskClient, alice: Mentorado, bob: User
) -> None:
    pair = page_of(console, f"/admin/mesma-pessoa?um=conta-{alice.user_id}&dois=conta-{bob.id}")

    swapped = page_of(console, link_of(pair, "Ficar com esta conta"))

    assert "Tudo passa para a conta de bob@example.com." in swapped


def test_account_stays_before_a_profile(
    console: FlaskClient, alice: Mentorado, session: Session
) -> None:
    waiting = Mentorado(nome_completo="Alice", turma=Turma.NEON)
    session.add(waiting)
    session.commit()
    path = "/admin/mesma-pessoa?um={}&dois={}"
    references = f"perfil-{waiting.id}", f"conta-{alice.user_id}"

    response = console.get(path.format(*references))

    assert response.location == path.format(*reversed(references))


def test_months_of_both_are_shown_and_can_be_chosen(
    console: FlaskClient, alice: Mentorado, bob: User, session: Session
) -> None:
    session.add(MetricaMensal(mentorado_id=alice.id, ano=2026, mes=1, faturamento=7_000))
    session.commit()
    path = f"/admin/mesma-pessoa?um=conta-{alice.user_id}&dois=conta-{bob.id}"

    pair = page_of(console, path)
    other = page_of(console, link_of(pair, "Ficar com os registros do outro"))

    assert (
        "Métricas de janeiro de 2026: fica R$\u00a07.000, vai para o arquivo R$\u00a05.000" in pair
    )
    assert "fica R$\u00a05.000, vai para o arquivo R$\u00a07.000" in other


def test_outdated_confirmation_is_shown_again_and_changes_nothing(
    console: FlaskClient, alice: Mentorado, bob: User, session: Session
) -> None:
    path = f"/admin/mesma-pessoa?um=conta-{alice.user_id}&dois=conta-{bob.id}"
    form = hidden_fields(page_of(console, path))
    alice.nome_completo = "Alice Prado Lima"
    session.commit()

    response = console.post("/admin/mesma-pessoa", data=form, headers=SAME_ORIGIN)

    session.expire_all()
    assert response.status_code == 409
    assert "Algo mudou desde que você viu esta página" in response.get_data(as_text=True)
    assert bob.blocked_at is None


@pytest.mark.parametrize("query", ["um=x", "um=conta-0x", "um=pessoa-1", "um=conta-99999999999"])
def test_malformed_choice_is_refused(console: FlaskClient, query: str) -> None:
    assert console.get(f"/admin/mesma-pessoa?{query}").status_code == 422


@pytest.mark.parametrize("query", ["um=conta-2147483647", "um=perfil-2147483647"])
def test_choice_that_does_not_exist_is_not_found(console: FlaskClient, query: str) -> None:
    assert console.get(f"/admin/mesma-pessoa?{query}").status_code == 404


def test_other_one_is_found_by_a_search(
    console: FlaskClient, alice: Mentorado, session: Session
) -> None:
    session.add(Mentorado(nome_completo="Zulmira", turma=Turma.NEON))
    session.commit()

    page = page_of(console, f"/admin/mesma-pessoa?um=conta-{alice.user_id}&q=zulmira")

    assert "Zulmira" in page
    assert link_of(page, "Escolher Zulmira").startswith("/admin/mesma-pessoa?um=conta-")
