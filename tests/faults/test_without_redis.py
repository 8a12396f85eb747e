"""Two processes without Redis: they may disagree, but no longer than the contract allows."""

from collections import Counter
from functools import partial

from dev.clients import ADMIN, concurrently, request_as
from dev.servers import Served, eventually, logged, workers
from tests.support.users import ALICE

LOOKS = range(24)


def statuses(app: Served) -> set[object]:
    """How Alice stands, asked so often at once that both processes answer."""
    look = partial(request_as, app, ALICE, "/api/auth/me", "GET")
    return {answer.json()["status"] for answer in concurrently(lambda _: look(), LOOKS)}


def misses(app: Served) -> Counter[object]:
    """How often each process has had to ask the database."""
    return Counter(line["pid"] for line in logged(app, "cache_miss"))


def test_block_holds_in_every_process_within_five_seconds(app: Served) -> None:
    statuses(app)
    user_id = request_as(app, ALICE, "/api/auth/me", "GET").json()["user"]["id"]

    before = misses(app)

    request_as(app, ADMIN, f"/api/admin/users/{user_id}/block")

    def all_have_asked_again() -> bool:
        statuses(app)
        return all(misses(app)[worker.pid] > before[worker.pid] for worker in workers(app))

    assert eventually(all_have_asked_again, seconds=7)
    assert statuses(app) == {"user_blocked"}
