"""Faults that keep a user from the dashboard, each undone afterwards."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from benchmarks.databases import REFUSE_PROFILES, connect_to
from benchmarks.servers import AppServer, request_as
from tests.support.clients import ADMIN

ALLOW_PROFILES = "DROP TRIGGER poison ON mentorados; DROP FUNCTION poison()"
AUTO_CREATE_PATH = "/api/admin/settings/auto-create"
ADD_INACTIVE_PROFILE = """
INSERT INTO mentorados (nome_completo, email, turma, ativo)
VALUES ('Rute Alves', %s, 'neon', 'nao')
"""


@dataclass(frozen=True, slots=True)
class FaultTarget:
    """A served app and its database; `email` is the address of the user who will sign in."""

    app: AppServer
    database_url: str
    email: str

    def execute(self, statement: str, *values: object) -> None:
        """Execute a statement in the database without the app."""
        with connect_to(self.database_url) as connection:
            connection.exec_driver_sql(statement, values)


Fault = Callable[[FaultTarget], AbstractContextManager[None]]


@contextmanager
def refuse_profiles(target: FaultTarget) -> Iterator[None]:
    """No profile can be written."""
    target.execute(REFUSE_PROFILES.replace("%", "%%"))
    try:
        yield
    finally:
        target.execute(ALLOW_PROFILES)


@contextmanager
def auto_create_off(target: FaultTarget) -> Iterator[None]:
    """An admin has turned off the creation of profiles."""
    request_as(target.app, ADMIN, AUTO_CREATE_PATH, "PUT", {"enabled": False}).raise_for_status()
    try:
        yield
    finally:
        request_as(target.app, ADMIN, AUTO_CREATE_PATH, "PUT", {"enabled": True}).raise_for_status()


@contextmanager
def inactive_profile(target: FaultTarget) -> Iterator[None]:
    """The pre-registered profile of the user is inactive."""
    target.execute(ADD_INACTIVE_PROFILE, target.email)
    yield


@contextmanager
def missing_table(target: FaultTarget) -> Iterator[None]:
    """A table that the dashboard reads is missing."""
    target.execute("ALTER TABLE feedbacks RENAME TO feedbacks_away")
    try:
        yield
    finally:
        target.execute("ALTER TABLE feedbacks_away RENAME TO feedbacks")
