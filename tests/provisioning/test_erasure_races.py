"""Erasures and logins of one user at the same time, with threads, a barrier and real commits."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Barrier

import pytest
from flask import Flask

from benchmarks.databases import connect_to, count
from core.database import background_transaction
from provisioning.audit import Source
from provisioning.erasure import erase_person
from provisioning.errors import UnknownUserError
from provisioning.personal_data import find_person
from provisioning.service import ProvisioningService
from tests.support.apps import create_app_on
from tests.support.users import BOB, NOW, PAGE, identity_of
from web.services import EXTENSION

ROUNDS, THREADS = 10, 6


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    """An app on that database with one connection for each thread."""
    with create_app_on(tmp_path, url, web_threads=THREADS) as app:
        yield app


def test_logins_during_an_erasure_leave_one_whole_person_or_none(app: Flask, url: str) -> None:
    service: ProvisioningService = app.extensions[EXTENSION].provisioning
    for _ in range(ROUNDS):
        with app.app_context():
            user_id = service.ensure(identity_of(BOB), source=PAGE, now=NOW).user.id
        start = Barrier(THREADS)
        work = [partial(erase, user_id)] * 2 + [partial(log_in, service)] * (THREADS - 2)

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(partial(run, app, start), work))

        users = count(url, "SELECT count(*) FROM users")
        owned = count(url, "SELECT count(*) FROM mentorados m JOIN users u ON u.id = m.user_id")
        assert (users, owned) in ((0, 0), (1, 1))
        assert count(url, "SELECT count(*) FROM mentorados") == owned
    assert erasures(url) == ROUNDS


def run(app: Flask, start: Barrier, work: Callable[[], object]) -> None:
    with app.app_context():
        start.wait(timeout=10)
        work()


def log_in(service: ProvisioningService) -> None:
    service.ensure(identity_of(BOB), source=PAGE, now=NOW)


def erase(user_id: int) -> None:
    with suppress(UnknownUserError), background_transaction() as session:
        erase_person(session, find_person(session, user_id, lock=True), source=Source("cli"))


def erasures(url: str) -> int:
    with connect_to(url) as connection:
        query = "SELECT count(*) FROM audit_events WHERE event = 'person_erased'"
        return int(connection.exec_driver_sql(query).scalar_one())
