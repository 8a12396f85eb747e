"""A commit arrives, the word of it is lost: who made the profile is still told so."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cast import BOB
from tests.databases import count
from tests.faults.crowds import ask
from tests.relay import Relay
from tests.serving import Served, served

CREATIONS = "SELECT count(*) FROM audit_events WHERE event = 'mentorado_created'"


@pytest.fixture
def app(relay: Relay, tmp_path: Path) -> Iterator[Served]:
    """The app, with nobody else at work."""
    with served(tmp_path, DATABASE_URL=relay.url, SCHEDULER="off") as app:
        yield app


def test_creation_whose_commit_was_not_heard_of_is_told_as_one(
    app: Served, relay: Relay, url: str
) -> None:
    relay.withholds.set()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, app, BOB)
        assert relay.has_withheld.wait(10)
        relay.withholds.clear()
        first = asked.result()

    second = ask(app, BOB)

    assert (first.status_code, first.json()["created"]) == (201, True)
    assert (second.status_code, second.json()["created"]) == (200, False)
    assert count(url, CREATIONS) == 1
