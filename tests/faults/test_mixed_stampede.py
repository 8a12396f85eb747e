"""A hundred concurrent requests of one new user, from pages, API and the ensure endpoint."""

from functools import partial

import requests

from benchmarks.databases import count
from benchmarks.servers import AppServer, is_served
from tests.support.clients import concurrently, request_with_retries, run_while_locked
from tests.support.users import BOB

ENDPOINTS = [
    ("/dashboard", "GET"),
    ("/api/auth/me", "GET"),
    ("/api/auth/ensure", "POST"),
    ("/api/mentorados/me/overview", "GET"),
]
LOCK_USERS = "LOCK TABLE users IN SHARE MODE"
CREATIONS = "SELECT count(*) FROM audit_events WHERE event = 'mentorado_created'"


def send_concurrently(
    app: AppServer, url: str, endpoints: list[tuple[str, str]]
) -> list[requests.Response]:
    """Send Bob's requests concurrently; a lock holds them until two of them wait."""
    send_all = partial(
        concurrently, lambda endpoint: request_with_retries(app, BOB, *endpoint), endpoints
    )
    return run_while_locked(url, LOCK_USERS, send_all, waiting=2)


def test_hundred_requests_of_all_endpoints_get_the_same_profile(app: AppServer, url: str) -> None:
    answers = send_concurrently(app, url, ENDPOINTS * 25)

    bodies = [answer.json() for answer in answers if "/api/auth/" in answer.url]
    assert [answer.text for answer in answers if not is_served(answer)] == []
    assert len({body["mentorado"]["id"] for body in bodies}) == 1
    assert sum(body.get("created", False) for body in bodies) <= 1
    assert count(url, "SELECT count(*) FROM mentorados") == count(url, CREATIONS) == 1
