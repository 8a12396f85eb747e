"""Two processes without Redis: a denial applies in both within the time of the contract."""

from collections import Counter
from functools import partial

from benchmarks.servers import AppServer, eventually, logged_events, request_as, workers
from tests.support.clients import ADMIN, concurrently
from tests.support.users import ALICE

REQUESTS = range(24)


def statuses(app: AppServer) -> set[object]:
    """Return Alice's statuses from concurrent requests that reach both processes."""
    read = partial(request_as, app, ALICE, "/api/auth/me", "GET")
    return {answer.json()["status"] for answer in concurrently(lambda _: read(), REQUESTS)}


def misses(app: AppServer) -> Counter[object]:
    """Return the number of cache misses of each process."""
    return Counter(line["pid"] for line in logged_events(app, "cache_miss"))


def test_block_applies_in_every_process_within_five_seconds(app: AppServer) -> None:
    statuses(app)
    user_id = request_as(app, ALICE, "/api/auth/me", "GET").json()["user"]["id"]

    before = misses(app)

    request_as(app, ADMIN, f"/api/admin/users/{user_id}/block")

    def all_have_reloaded() -> bool:
        statuses(app)
        return all(misses(app)[worker.pid] > before[worker.pid] for worker in workers(app))

    assert eventually(all_have_reloaded, seconds=7)
    assert statuses(app) == {"user_blocked"}
