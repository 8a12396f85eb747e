"""HTTP clients that send requests as users: one, many at the same moment, or a few at a time."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import requests

from benchmarks.databases import connect_to, count
from benchmarks.servers import AppServer, eventually, is_retryable, request_as
from dev.fake_clerk import ADMIN_EMAIL, DevUser

ADMIN = DevUser("user_admin", "Dona Admin", ADMIN_EMAIL)

WAITING_FOR_A_LOCK = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND wait_event_type = 'Lock'
"""

# The server itself releases the lock: beside a hundred busy threads this process would be too late,
# after the lock timeout of the program.
HOLD_LOCK = f"""
DO $$ BEGIN
    {{lock}};
    FOR _ IN 1..400 LOOP
        PERFORM pg_sleep(0.005), pg_stat_clear_snapshot();
        EXIT WHEN ({WAITING_FOR_A_LOCK}) >= {{waiting}};
    END LOOP;
END $$
"""
SLEEPING_HOLDERS = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND wait_event = 'PgSleep'
"""

Item = TypeVar("Item")
Result = TypeVar("Result")


def new_users(number: int) -> list[DevUser]:
    """Return `number` users who have never signed in."""
    return [DevUser(f"user_{i}", f"Pessoa {i}", f"pessoa{i}@example.com") for i in range(number)]


def request_with_retries(app: AppServer, user: DevUser, *what: str) -> requests.Response:
    """As `request_as`, with up to three retries of a retryable 503: a machine may be busy."""
    answer = request_as(app, user, *what)
    for _ in range(3):
        if not is_retryable(answer):
            break
        answer = request_as(app, user, *what)
    return answer


def code_of(answer: requests.Response) -> object:
    """Return the code of a problem document, or None."""
    return answer.json().get("code")


def concurrently(call: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Call the function for all items at the same moment, each in a thread."""
    start = Barrier(len(items))

    def wait_then_call(item: Item) -> Result:
        start.wait(timeout=30)
        return call(item)

    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(wait_then_call, items))


def run_with_few_threads(call: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Call the function for all items, in eight threads."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(call, items))


def run_while_locked(url: str, lock: str, work: Callable[[], Result], *, waiting: int) -> Result:
    """Run `work` against a lock, which is released when `waiting` connections wait for locks."""
    statement = HOLD_LOCK.format(lock=lock, waiting=waiting)
    with connect_to(url) as connection, ThreadPoolExecutor(1) as pool:
        held = pool.submit(connection.exec_driver_sql, statement)
        assert eventually(lambda: count(url, SLEEPING_HOLDERS) == 1)  # nosec B101
        result = work()
        held.result()
    return result


def queue_length(url: str) -> int:
    """Return the number of connections that wait for a lock in that database."""
    return count(url, WAITING_FOR_A_LOCK)
