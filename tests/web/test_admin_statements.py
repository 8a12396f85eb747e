"""The pages of the admin console need few SQL statements, independent of the number of users."""

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from models import Mentorado, User
from models.people import Role, Turma
from tests.support.types import Browser
from tests.support.users import CHARLIE

MAX_STATEMENTS = 10
TRANSACTION_STATEMENTS = (
    "SAVEPOINT",
    "RELEASE",
    "ROLLBACK",
    "SELECT set_config",
)


@pytest.fixture
def console(session: Session, browser_of: Browser) -> FlaskClient:
    """The browser of an admin, on a database with thirty mentees."""
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
    """All SQL statements from now on."""
    executed: list[str] = []

    def record(*args: object) -> None:
        statement = str(args[2])
        if not statement.startswith(TRANSACTION_STATEMENTS):
            executed.append(statement)

    event.listen(connection, "before_cursor_execute", record)
    yield executed
    event.remove(connection, "before_cursor_execute", record)


@pytest.mark.parametrize(
    "path",
    [
        "/admin",
        "/admin/meses/2026/2?filter=sem_feedback&sort=pontos",
        "/admin/busca?q=P",
        "/admin/registro?q=P",
        "/admin/sistema",
        "/admin/pessoas",
        "/admin/pessoas?q=P",
        "/admin/mentorados",
        "/admin/varreduras",
    ],
)
def test_list_pages_need_few_statements(
    console: FlaskClient, statements: list[str], path: str
) -> None:
    assert console.get(path).status_code == 200

    assert len(statements) < MAX_STATEMENTS


def test_user_and_profile_pages_need_few_statements(
    console: FlaskClient, statements: list[str], session: Session
) -> None:
    profile = session.query(Mentorado).first()
    assert profile is not None

    for path in (f"/admin/pessoas/{profile.user_id}", f"/admin/mentorados/{profile.id}"):
        statements.clear()
        console.get(path)
        assert len(statements) < MAX_STATEMENTS, path
