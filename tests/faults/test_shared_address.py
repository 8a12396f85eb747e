"""Fifty people prove the same address at once, and one profile waits for it."""

from functools import partial

import pytest
import requests

from dev.clients import concurrently, held_up, request_with_retries
from dev.databases import connect_to, count
from dev.fake_clerk import DevUser
from dev.servers import Served

ADDRESS = "eva@example.com"
CLAIMANTS = [DevUser(f"user_{i}", "Eva Melo", ADDRESS) for i in range(50)]
WAITING = f"""
INSERT INTO mentorados (nome_completo, email, turma) VALUES ('Eva', '{ADDRESS}', 'neon')
RETURNING id
"""
HELD = "PERFORM 1 FROM mentorados FOR UPDATE"


@pytest.fixture
def waiting_id(url: str) -> int:
    """The profile that the team has registered for whoever proves that address."""
    with connect_to(url) as connection:
        return int(connection.exec_driver_sql(WAITING).scalar_one())


def claim(app: Served, url: str) -> list[requests.Response]:
    """Let all of them ask at once, and hold the profile until two have got that far."""
    crowd = partial(concurrently, partial(request_with_retries, app), CLAIMANTS)
    return held_up(url, HELD, crowd, waiting=2)


def test_waiting_profile_goes_to_one_of_fifty_and_the_others_get_their_own(
    app: Served, url: str, waiting_id: int
) -> None:
    bodies = [answer.json() for answer in claim(app, url)]

    linked = [body["mentorado"]["id"] for body in bodies if body["outcome"] == "linked"]
    profiles = {body["mentorado"]["id"] for body in bodies}
    assert (linked, sum(body["created"] for body in bodies)) == ([waiting_id], 49)
    assert len(profiles) == count(url, "SELECT count(user_id) FROM mentorados") == 50
