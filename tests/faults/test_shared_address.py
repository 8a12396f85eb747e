"""Fifty users with the same verified address sign in at once; one profile is pre-registered."""

from functools import partial

import pytest
import requests

from benchmarks.databases import connect_to, count
from benchmarks.servers import AppServer
from dev.fake_clerk import DevUser
from tests.support.clients import concurrently, request_with_retries, run_while_locked

ADDRESS = "eva@example.com"
USERS = [DevUser(f"user_{i}", "Eva Melo", ADDRESS) for i in range(50)]
PRE_REGISTER = f"""
INSERT INTO mentorados (nome_completo, email, turma) VALUES ('Eva', '{ADDRESS}', 'neon')
RETURNING id
"""
LOCK_PROFILE = "PERFORM 1 FROM mentorados FOR UPDATE"


@pytest.fixture
def unlinked_id(url: str) -> int:
    """The id of the profile that is pre-registered for the address."""
    with connect_to(url) as connection:
        return int(connection.exec_driver_sql(PRE_REGISTER).scalar_one())


def sign_in_all(app: AppServer, url: str) -> list[requests.Response]:
    """Sign all users in concurrently; a lock holds them until two of them wait."""
    sign_in = partial(concurrently, partial(request_with_retries, app), USERS)
    return run_while_locked(url, LOCK_PROFILE, sign_in, waiting=2)


def test_pre_registered_profile_is_linked_to_one_of_fifty_users(
    app: AppServer, url: str, unlinked_id: int
) -> None:
    bodies = [answer.json() for answer in sign_in_all(app, url)]

    linked = [body["mentorado"]["id"] for body in bodies if body["outcome"] == "linked"]
    profiles = {body["mentorado"]["id"] for body in bodies}
    assert (linked, sum(body["created"] for body in bodies)) == ([unlinked_id], 49)
    assert len(profiles) == count(url, "SELECT count(user_id) FROM mentorados") == 50
