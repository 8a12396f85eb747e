"""Concurrent logins with threads, a barrier and real commits; rows are counted afterwards."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from flask import Flask

from auth.identity import Identity
from benchmarks.databases import connect_to, count
from provisioning.ensure import EnsureResult, Outcome
from tests.support.apps import create_app_on
from tests.support.users import BOB, NOW, PAGE, identity_of
from web.services import EXTENSION

THREADS = 10


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    """An app on that database with one connection for each thread."""
    with create_app_on(tmp_path, url, web_threads=THREADS) as app:
        yield app


def race(app: Flask, identities: list[Identity]) -> list[EnsureResult]:
    """Ensure all identities at the same time."""
    service = app.extensions[EXTENSION].provisioning
    start = Barrier(len(identities))

    def run(identity: Identity) -> EnsureResult:
        with app.app_context():
            start.wait(timeout=10)
            result: EnsureResult = service.ensure(identity, source=PAGE, now=NOW)
            return result

    with ThreadPoolExecutor(len(identities)) as pool:
        return list(pool.map(run, identities))


def test_one_of_many_concurrent_first_logins_creates_the_profile(app: Flask, url: str) -> None:
    results = race(app, [identity_of(BOB)] * THREADS)

    assert sorted(r.outcome for r in results) == [Outcome.CREATED] + [Outcome.EXISTING] * 9
    assert count(url, "SELECT count(*) FROM mentorados") == 1


def test_one_of_many_users_with_the_same_address_is_linked(app: Flask, url: str) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(
            "INSERT INTO mentorados (nome_completo, email, turma)"
            " VALUES ('Eva', 'eva@example.com', 'neon')"
        )

    results = race(app, [Identity(f"u{i}", None, "eva@example.com", True) for i in range(THREADS)])

    assert sorted(r.outcome for r in results) == [Outcome.CREATED] * 9 + [Outcome.LINKED]
    assert count(url, "SELECT count(*) FROM mentorados WHERE user_id IS NOT NULL") == THREADS
