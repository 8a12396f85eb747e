"""Search in the console: words without accents, addresses, numbers, ids and codes, by index."""

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from models import AuditEvent, Mentorado, User
from models.people import Turma
from provisioning.user_lists import SearchTerm, list_mentees, list_users
from tests.support.users import NOW, failed_attempt

NAMES = ("Amanda São João", "Bruna D'Ávila", "Camila Rocha", "Jørgen Ærø", "Ana-Luíza  de Melo")


@pytest.fixture
def profiles(session: Session) -> None:
    """Pre-registered profiles with names that are hard to type."""
    session.add_all(
        Mentorado(nome_completo=name, email=f"p{number}.silva@clinica.com.br", turma=Turma.NEON)
        for number, name in enumerate(NAMES)
    )
    session.commit()


def profiles_found(session: Session, wanted: str) -> list[str]:
    found = list_mentees(session, search=SearchTerm(wanted), limit=50)
    return [profile.nome_completo for profile in found]


def users_found(session: Session, wanted: str, **options: str) -> list[str | None]:
    found = list_users(session, search=SearchTerm(wanted, **options), limit=50)
    return [row.user.name for row in found]


@pytest.mark.usefixtures("profiles")
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("sao joao", NAMES[0]),
        ("JOÃO amanda", NAMES[0]),
        ("Joa\u0303o", NAMES[0]),  # the accent as a character of its own
        ("d'avila", NAMES[1]),
        ("D’Ávila", NAMES[1]),
        ("rocha camila", NAMES[2]),
        ("cam", NAMES[2]),
        ("jorgen aro", NAMES[3]),
        ("melo luiza", NAMES[4]),
        ("p2.silva@clin", NAMES[2]),
        ("P2.Silva@Clinica.com.br", NAMES[2]),
    ],
)
def test_profile_is_found_by_words_in_any_order_without_accents(
    session: Session, wanted: str, expected: str
) -> None:
    assert profiles_found(session, wanted) == [expected]


@pytest.mark.usefixtures("profiles")
@pytest.mark.parametrize("wanted", ["amila", "camila silva joao", "c", "%", "_", "' | '", "\\"])
def test_other_texts_find_nobody(session: Session, wanted: str) -> None:
    assert profiles_found(session, wanted) == []


def test_words_are_folded_alike_in_every_locale(session: Session) -> None:
    collations = session.scalars(
        select(text("collname FROM pg_collation WHERE collprovider IN ('c', 'i', 'b')"))
    )
    tested = [name for name in collations if name in ("C", "tr-x-icu", "und-x-icu", "pt-BR-x-icu")]

    folded = {
        session.scalar(text(f"SELECT folded_text('IÇarı ÉLIDA' COLLATE \"{name}\")"))
        for name in tested
    }

    assert tested
    assert folded == {"icari elida"}


def test_number_finds_the_account_and_the_profile(session: Session) -> None:
    session.add(User(id=71_001, clerk_id="user_number", name="Conta"))
    session.add(Mentorado(id=71_002, nome_completo="Perfil", turma=Turma.NEON))
    session.commit()

    assert users_found(session, "71001") == ["Conta"]
    assert profiles_found(session, "nº 71002") == ["Perfil"]
    assert users_found(session, "9" * 15) == []


def test_address_is_not_found_in_a_name(session: Session) -> None:
    session.add(User(clerk_id="user_1", name="Outra", email="helena@example.com"))
    session.add(
        Mentorado(nome_completo="Helena Prado", email="helen@example.com", turma=Turma.NEON)
    )
    session.commit()

    assert users_found(session, "helena@example.com") == ["Outra"]
    assert profiles_found(session, "helena@example.com") == []


def test_account_is_found_by_the_name_of_its_profile_and_the_other_way_round(
    session: Session,
) -> None:
    user = User(clerk_id="user_two_names", name="Nome Social")
    session.add(user)
    session.flush()  # the profile needs the id
    session.add(
        Mentorado(user_id=user.id, nome_completo="Registro Civil", turma=Turma.NEON, edited_at=NOW)
    )
    session.commit()

    assert users_found(session, "civil") == ["Nome Social"]
    assert profiles_found(session, "social") == ["Registro Civil"]


@pytest.mark.parametrize("wanted", ["0f3a9c21", "0f3a9c21b7d04e558f10aa22bb33cc44", "user_coded"])
def test_account_is_found_by_clerk_id_and_by_the_first_eight_characters_of_a_code(
    session: Session, wanted: str
) -> None:
    code = "0f3a9c21b7d04e558f10aa22bb33cc44"
    user = User(clerk_id="user_coded", name="Com código")
    session.add_all([user, User(clerk_id="user_failed", name="Com falha"), User(clerk_id="other")])
    session.flush()  # the event needs the id
    session.add(AuditEvent(event="x", entry="page", user_id=user.id, request_id=code))
    session.add(failed_attempt("user_failed", "pending", attempts=0, request_id=code))
    session.commit()

    expected = ["Com código"] if wanted == "user_coded" else ["Com código", "Com falha"]
    assert users_found(session, wanted) == expected


def test_user_who_was_shown_the_code_is_found_beside_other_matches(session: Session) -> None:
    session.add_all([User(clerk_id="shown", name="Visto"), User(clerk_id="b", name="Abc Silva")])
    session.commit()

    assert users_found(session, "abc", shown_to="shown") == ["Visto", "Abc Silva"]


def test_pages_of_a_search_continue_after_the_cursor(session: Session) -> None:
    session.add_all(User(clerk_id=f"user_{i}", name=f"Rosa {i}") for i in range(5))
    session.commit()
    listed: list[str | None] = []
    cursor = 0

    while page := list_users(session, search=SearchTerm("rosa"), after_id=cursor, limit=2):
        listed += [row.user.name for row in page]
        cursor = page[-1].user.id

    assert listed == [f"Rosa {i}" for i in range(5)]


def test_words_are_found_by_index_among_many_rows(session: Session) -> None:
    session.execute(
        text("""
            INSERT INTO users (clerk_id, name, email)
            SELECT 'many_' || i, 'Pessoa ' || md5(i::text), 'p' || i || '@example.com'
              FROM generate_series(1, 3000) AS i
        """)
    )
    session.execute(text("ANALYZE users"))
    statement = str(
        SearchTerm("pessoa abc")
        .user_ids()
        .compile(session.get_bind(), compile_kwargs={"literal_binds": True})
    )

    rows = session.connection().exec_driver_sql(f"EXPLAIN {statement}")
    plan = "\n".join(row[0] for row in rows)

    assert "users_search_idx" in plan
    assert "Seq Scan on users" not in plan
