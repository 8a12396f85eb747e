"""The hands of a sweep without the sweep, one batch or group at a time; and a sweep in a crowd."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from flask import Flask

from auth.identity import Identity
from sweep.executor import SweepExecutor
from sweep.progress import SweepCounts
from sweep.scheduler import build_sweeper
from sweep.sweeper import Sweeper
from tests.support.users import NOW, PAGE
from web.services import EXTENSION


def closing_of(sweeper: Sweeper) -> SweepExecutor:
    """The hands of that sweeper, which report to nobody."""
    return SweepExecutor(
        sweeper.transaction,
        sweeper.ensure_user,
        sweeper.rules,
        SweepCounts(),
        lambda *_: None,
        sweeper.on_batch,
        sweeper.on_link,
        sweeper.monotonic,
    )


def sweep_among_logins(app: Flask, people: int, *, doors: int) -> None:
    """Let `user_1` and so on sign in, through so many doors at once, while a sweep is at them."""
    guarantee = app.extensions[EXTENSION].provisioning
    start = Barrier(doors + 1)

    def log_in(first: int) -> None:
        with app.app_context():
            start.wait(timeout=10)
            for number in range(first, people + 1, doors):
                guarantee.ensure(Identity(f"user_{number}"), source=PAGE, now=NOW)

    with ThreadPoolExecutor(doors) as pool, app.app_context():
        logins = [pool.submit(log_in, first) for first in range(1, doors + 1)]
        start.wait(timeout=10)
        build_sweeper(guarantee, batch_size=10).start("cli")
        for login in logins:
            login.result(timeout=10)
