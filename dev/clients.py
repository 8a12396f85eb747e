"""People who sign in over the network: one alone, many in the same moment, a few at a time."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from threading import Barrier
from typing import TypeVar

import requests

from dev.databases import connect_to, count
from dev.fake_clerk import ADMIN_EMAIL, DevIdentityProvider, DevUser
from dev.servers import Served, eventually

LONGEST_ANSWER_SECONDS = 30
ADMIN = DevUser("user_admin", "Dona Admin", ADMIN_EMAIL)

WAIT_CODES = {"provisioning_unavailable", "database_unavailable"}
WAITING_FOR_A_LOCK = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND wait_event_type = 'Lock'
"""

# The server itself watches and lets go: among a hundred busy threads we would come too late, when
# the program has lost its patience with the lock.
HOLD_LOCK = f"""
DO $$ BEGIN
    {{lock}};
    FOR _ IN 1..400 LOOP
        PERFORM pg_sleep(0.005), pg_stat_clear_snapshot();
        EXIT WHEN ({WAITING_FOR_A_LOCK}) >= {{waiting}};
    END LOOP;
END $$
"""
HOLDERS = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND wait_event = 'PgSleep'
"""

Guest = TypeVar("Guest")
Answer = TypeVar("Answer")


def new_users(number: int) -> list[DevUser]:
    """That many people who have never been here."""
    return [DevUser(f"user_{i}", f"Pessoa {i}", f"pessoa{i}@example.com") for i in range(number)]


def request_as(
    app: Served,
    person: DevUser,
    path: str = "/api/auth/ensure",
    method: str = "POST",
    body: object = None,
) -> requests.Response:
    """Ask as that person, over a connection of its own; by default, to be sure of the profile."""
    token = provider_of(app.instance).token(person)
    headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
    return requests.request(
        method, app.url + path, json=body, headers=headers, timeout=LONGEST_ANSWER_SECONDS
    )


def request_with_retries(app: Served, person: DevUser, *what: str) -> requests.Response:
    """As `ask`, and up to three times more where the answer says to: a machine may be busy."""
    answer = request_as(app, person, *what)
    for _ in range(3):
        if not is_retryable(answer):
            break
        answer = request_as(app, person, *what)
    return answer


def code_of(answer: requests.Response) -> object:
    """The code of a problem document, or nothing."""
    return answer.json().get("code")


def concurrently(call: Callable[[Guest], Answer], guests: Sequence[Guest]) -> list[Answer]:
    """Call for every guest in the same moment."""
    start = Barrier(len(guests))

    def wait_then_call(guest: Guest) -> Answer:
        start.wait(timeout=30)
        return call(guest)

    with ThreadPoolExecutor(len(guests)) as pool:
        return list(pool.map(wait_then_call, guests))


def few_at_a_time(call: Callable[[Guest], Answer], guests: Iterable[Guest]) -> list[Answer]:
    """Call for every guest, eight at any time."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(call, guests))


def is_served(answer: requests.Response) -> bool:
    """Whether the answer is what was asked for, which an error and a redirection are not."""
    return answer.status_code in (200, 201)


def is_retryable(answer: requests.Response) -> bool:
    """Whether the answer is a coded 503 that says when to come again (CONTRACT section 4.3)."""
    return (
        answer.status_code == 503
        and int(answer.headers.get("Retry-After", "0")) > 0
        and answer.json()["code"] in WAIT_CODES
    )


def held_up(url: str, lock: str, crowd: Callable[[], Answer], *, waiting: int) -> Answer:
    """Let the crowd run into a lock, which goes as soon as that many of them wait for one."""
    holding = HOLD_LOCK.format(lock=lock, waiting=waiting)
    with connect_to(url) as holder, ThreadPoolExecutor(1) as pool:
        held = pool.submit(holder.exec_driver_sql, holding)
        assert eventually(lambda: count(url, HOLDERS) == 1)  # nosec B101
        answer = crowd()
        held.result()
    return answer


def queue_length(url: str) -> int:
    """How many connections wait for a lock in that database just now."""
    return count(url, WAITING_FOR_A_LOCK)


@cache
def provider_of(instance: Path) -> DevIdentityProvider:
    """The stand-in for Clerk that a server on this folder believes."""
    return DevIdentityProvider(instance / "identity")
