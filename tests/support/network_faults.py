"""What keeps people from their dashboards, brought about for real and undone afterwards."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from dev.clients import ADMIN, request_as
from dev.databases import REFUSE_PROFILES, connect_to
from dev.servers import Served

CURE = "DROP TRIGGER poison ON mentorados; DROP FUNCTION poison()"
SWITCH = "/api/admin/settings/auto-create"
INACTIVE = """
INSERT INTO mentorados (nome_completo, email, turma, ativo)
VALUES ('Rute Alves', %s, 'neon', 'nao')
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """A served app and its database; `email` is the address of the person who will sign in."""

    app: Served
    database_url: str
    email: str

    def run(self, statement: str, *values: object) -> None:
        """Have the database do something behind the app's back."""
        with connect_to(self.database_url) as connection:
            connection.exec_driver_sql(statement, values)


Trouble = Callable[[Stage], AbstractContextManager[None]]


@contextmanager
def poisoned(stage: Stage) -> Iterator[None]:
    """No profile can be written."""
    stage.run(REFUSE_PROFILES.replace("%", "%%"))
    try:
        yield
    finally:
        stage.run(CURE)


@contextmanager
def switched_off(stage: Stage) -> Iterator[None]:
    """An admin has paused the creation of profiles."""
    request_as(stage.app, ADMIN, SWITCH, "PUT", {"enabled": False}).raise_for_status()
    try:
        yield
    finally:
        request_as(stage.app, ADMIN, SWITCH, "PUT", {"enabled": True}).raise_for_status()


@contextmanager
def inactive(stage: Stage) -> Iterator[None]:
    """The profile that waits for the person has been deactivated."""
    stage.run(INACTIVE, stage.email)
    yield


@contextmanager
def broken(stage: Stage) -> Iterator[None]:
    """A table is missing that the dashboard reads."""
    stage.run("ALTER TABLE feedbacks RENAME TO feedbacks_away")
    try:
        yield
    finally:
        stage.run("ALTER TABLE feedbacks_away RENAME TO feedbacks")
