"""Helpers for sweep tests: an executor without a sweep, and a sweep during logins."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from flask import Flask

from auth.identity import Identity
from sweep.executor import SweepCounts, SweepExecutor
from sweep.scheduler import build_sweeper
from sweep.sweeper import Sweeper
from tests.support.users import NOW, PAGE
from web.services import EXTENSION


def executor_of(sweeper: Sweeper) -> SweepExecutor:
    """The executor of a sweeper, without reports."""
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


def sweep_during_logins(app: Flask, users: int, *, threads: int) -> None:
    """Let `user_1` and so on sign in from parallel threads while a sweep runs."""
    provisioning = app.extensions[EXTENSION].provisioning
    start = Barrier(threads + 1)

    def sign_in(first: int) -> None:
        with app.app_context():
            start.wait(timeout=10)
            for number in range(first, users + 1, threads):
                provisioning.ensure(Identity(f"user_{number}"), source=PAGE, now=NOW)

    with ThreadPoolExecutor(threads) as pool, app.app_context():
        logins = [pool.submit(sign_in, first) for first in range(1, threads + 1)]
        start.wait(timeout=10)
        build_sweeper(provisioning, batch_size=10).start("cli")
        for login in logins:
            login.result(timeout=10)
