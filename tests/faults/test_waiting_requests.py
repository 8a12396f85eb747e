"""Requests of one user that wait for a thread share an ensure call that began after them."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psutil
import pytest

from benchmarks.databases import hold_locks
from benchmarks.servers import AppServer, eventually, logged_events, request_as, workers
from tests.support.clients import concurrently
from tests.support.databases import is_blocked_eventually
from tests.support.users import BOB

REQUESTS, THREADS = 40, 2


@pytest.fixture
def settings() -> dict[str, str]:
    return {"WEB_CONCURRENCY": "1", "WEB_THREADS": str(THREADS)}


def accepted_connections(app: AppServer) -> int:
    [worker] = workers(app)
    port = int(app.url.rpartition(":")[2])
    connections = worker.net_connections("tcp")
    return sum(c.laddr.port == port and c.status == psutil.CONN_ESTABLISHED for c in connections)


def test_requests_that_wait_for_a_thread_share_an_ensure_call(
    app: AppServer, url: str, barrier: str
) -> None:
    with ThreadPoolExecutor(1) as pool, hold_locks(url, barrier) as lock:
        calls = [partial(request_as, app, BOB)] * REQUESTS
        answers = pool.submit(concurrently, lambda call: call(), calls)
        assert is_blocked_eventually(url)
        assert eventually(lambda: accepted_connections(app) == REQUESTS)
        lock.rollback()

    assert {answer.status_code for answer in answers.result()} == {200, 201}
    # Without sharing, each thread would need a call for each of its requests, or two threads one.
    assert len(logged_events(app, "session_invalidated")) < REQUESTS / THREADS / 2
