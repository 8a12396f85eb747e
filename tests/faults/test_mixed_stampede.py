"""A hundred requests of one new person at once, by every way in, the explicit one included."""

from functools import partial

import requests

from dev.clients import concurrently, held_up, is_served, request_with_retries
from dev.databases import count
from dev.servers import Served
from tests.support.users import BOB

WAYS_IN = [
    ("/dashboard", "GET"),
    ("/api/auth/me", "GET"),
    ("/api/auth/ensure", "POST"),
    ("/api/mentorados/me/overview", "GET"),
]
NO_NEW_USERS = "LOCK TABLE users IN SHARE MODE"
CREATIONS = "SELECT count(*) FROM audit_events WHERE event = 'mentorado_created'"


def enter(app: Served, url: str, ways: list[tuple[str, str]]) -> list[requests.Response]:
    """Let Bob in by all these ways at once, and hold the door until two are there."""
    crowd = partial(concurrently, lambda way: request_with_retries(app, BOB, *way), ways)
    return held_up(url, NO_NEW_USERS, crowd, waiting=2)


def test_every_way_in_leads_a_hundred_requests_at_once_to_the_same_profile(
    app: Served, url: str
) -> None:
    answers = enter(app, url, WAYS_IN * 25)

    bodies = [answer.json() for answer in answers if "/api/auth/" in answer.url]
    assert [answer.text for answer in answers if not is_served(answer)] == []
    assert len({body["mentorado"]["id"] for body in bodies}) == 1
    assert sum(body.get("created", False) for body in bodies) <= 1
    assert count(url, "SELECT count(*) FROM mentorados") == count(url, CREATIONS) == 1
