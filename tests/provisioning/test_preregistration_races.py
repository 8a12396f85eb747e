"""Two concurrent writers of one address register it once, without a server error."""

import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from benchmarks.databases import connect_to, count
from dev.fake_clerk import ADMIN_EMAIL, DevUser
from tests.support.apps import create_app_on
from tests.support.clients import concurrently, run_while_locked
from web.services import EXTENSION

ADMIN = DevUser("user_admin", "Dona Admin", ADMIN_EMAIL)
EVA = DevUser("user_eva", "Eva Melo", "eva@example.com")
LIST = "nome;e-mail\nEva Melo;eva@example.com\nFabio;fabio@example.com"
WITH_ADDRESS = "SELECT count(*) FROM mentorados WHERE email = 'eva@example.com'"
# Each write of a profile waits in this trigger while the test holds the lock.
BARRIER = """
CREATE FUNCTION wait_for_barrier() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END $$;
CREATE TRIGGER barrier BEFORE INSERT OR UPDATE ON mentorados
   FOR EACH ROW EXECUTE FUNCTION wait_for_barrier();
"""
HOLD = "PERFORM pg_advisory_xact_lock(1)"
# The first insert of a profile fails like a deadlock victim; sequences are not rolled back.
DEADLOCK = """
CREATE SEQUENCE tries;
CREATE FUNCTION fail_once() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF nextval('tries') = 1 THEN
    RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '{sqlstate}';
END IF; RETURN NEW; END $$;
CREATE TRIGGER fail_once BEFORE INSERT ON mentorados FOR EACH ROW EXECUTE FUNCTION fail_once();
"""


@pytest.fixture
def url(copy_database: Callable[[str], str], tmp_path: Path) -> str:
    """The URL of a database for one test, with a profile that has no address."""
    url = copy_database(f"race_{tmp_path.name}")
    with connect_to(url) as connection:
        connection.exec_driver_sql(
            "INSERT INTO mentorados (id, nome_completo, turma) VALUES (1000, 'Sem e-mail', 'neon')"
        )
    return url


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    """An app whose commits are real."""
    with create_app_on(tmp_path, url) as app:
        call(app, ADMIN, "GET", "/admin")  # stores the admin
        yield app


def call(app: Flask, user: DevUser, method: str, path: str, **sent: object) -> TestResponse:
    provider = app.extensions[EXTENSION].dev_provider
    assert provider is not None
    headers = {"Authorization": f"Bearer {provider.token(user)}"}
    return app.test_client().open(path, method=method, headers=headers, **sent)  # type: ignore[arg-type]


def import_list(app: Flask) -> TestResponse:
    form = {"confirmado": "sim", "lista": LIST}
    answer = call(app, ADMIN, "POST", "/admin/mentorados/novos", data=form)
    return call(app, ADMIN, "GET", answer.location) if answer.location else answer


def register(app: Flask) -> TestResponse:
    body = {"nome_completo": "Eva", "email": EVA.email}
    return call(app, ADMIN, "POST", "/api/admin/mentorados", json=body)


def correct(app: Flask) -> TestResponse:
    return call(app, ADMIN, "PATCH", "/api/admin/mentorados/1000", json={"email": EVA.email})


def sign_in(app: Flask) -> TestResponse:
    return call(app, EVA, "POST", "/api/auth/ensure")


def race(app: Flask, url: str, *writers: Callable[[Flask], TestResponse]) -> list[TestResponse]:
    """Run the writers concurrently and release them once all of them wait for a lock."""
    with connect_to(url) as connection:
        connection.exec_driver_sql(BARRIER)
    run = partial(concurrently, lambda write: write(app), writers)
    return run_while_locked(url, HOLD, run, waiting=len(writers))


@pytest.mark.parametrize(
    "writers",
    [
        (import_list, import_list),
        (import_list, register),
        (import_list, correct),
        (register, register),
        (register, correct),
    ],
    ids=lambda writers: " and ".join(writer.__name__ for writer in writers),
)
def test_address_is_registered_by_one_of_two_writers(
    app: Flask, url: str, writers: tuple[Callable[[Flask], TestResponse], ...]
) -> None:
    answers = race(app, url, *writers)

    assert count(url, WITH_ADDRESS) == 1
    refused = [a for a in answers if "exist" in a.get_data(as_text=True) or a.status_code == 409]
    assert len(refused) == 1
    assert {answer.status_code for answer in answers} <= {200, 201, 409}


def test_form_submitted_concurrently_is_applied_once(app: Flask, url: str) -> None:
    form = {"confirmado": "sim", "lista": "nome;e-mail\nSó o nome;", "chave": str(uuid.uuid4())}

    answers = concurrently(
        lambda sent: call(app, ADMIN, "POST", "/admin/mentorados/novos", data=sent), [form] * 4
    )

    assert {answer.status_code for answer in answers} == {303}
    assert len({answer.location for answer in answers}) == 1
    assert count(url, "SELECT count(*) FROM mentorados WHERE nome_completo = 'Só o nome'") == 1


@pytest.mark.parametrize("write", [import_list, register])
def test_login_during_a_registration_ends_with_one_profile(
    app: Flask, url: str, write: Callable[[Flask], TestResponse]
) -> None:
    race(app, url, write, sign_in)

    assert sign_in(app).status_code == 200
    assert count(url, WITH_ADDRESS) == 1


@pytest.mark.parametrize("sqlstate", ["40P01", "55P03"])
@pytest.mark.parametrize("write", [import_list, register])
def test_deadlock_and_lock_timeout_are_retried(
    app: Flask, url: str, write: Callable[[Flask], TestResponse], sqlstate: str
) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(DEADLOCK.format(sqlstate=sqlstate))

    answer = write(app)

    assert answer.status_code in (200, 201)
    assert count(url, WITH_ADDRESS) == 1
