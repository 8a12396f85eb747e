"""The desk's pages ask the database few questions, however many people there are."""

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from models import Mentorado, User
from models.mentorado import Turma
from models.user import Role
from tests.support.types import Browser
from tests.support.users import CHARLIE

MOST_STATEMENTS = 10
FRAME = ("SAVEPOINT", "RELEASE", "ROLLBACK", "SELECT set_config")  # no questions of the page's


@pytest.fixture
def desk(session: Session, browser_of: Browser) -> FlaskClient:
    """The browser of an admin, and thirty mentees."""
    session.add(User(clerk_id=CHARLIE.clerk_id, role=Role.ADMIN))
    for number in range(30):
        user = User(clerk_id=f"user_{number}", name=f"Pessoa {number}")
        session.add(user)
        session.flush()  # the profile needs the id
        session.add(Mentorado(user_id=user.id, nome_completo=f"Pessoa {number}", turma=Turma.NEON))
    session.commit()
    return browser_of(CHARLIE)


@pytest.fixture
def statements(connection: Connection) -> Iterator[list[str]]:
    """What the database is asked from now on."""
    asked: list[str] = []

    def note(*args: object) -> None:
        statement = str(args[2])
        if not statement.startswith(FRAME):
            asked.append(statement)

    event.listen(connection, "before_cursor_execute", note)
    yield asked
    event.remove(connection, "before_cursor_execute", note)


@pytest.mark.parametrize(
    "path",
    ["/admin", "/admin/pessoas", "/admin/pessoas?q=P", "/admin/mentorados", "/admin/varreduras"],
)
def test_pages_ask_few_questions(desk: FlaskClient, statements: list[str], path: str) -> None:
    assert desk.get(path).status_code == 200

    assert len(statements) < MOST_STATEMENTS


def test_person_and_profile_ask_few_questions(
    desk: FlaskClient, statements: list[str], session: Session
) -> None:
    profile = session.query(Mentorado).first()
    assert profile is not None

    for path in (f"/admin/pessoas/{profile.user_id}", f"/admin/mentorados/{profile.id}"):
        statements.clear()
        desk.get(path)
        assert len(statements) < MOST_STATEMENTS, path
