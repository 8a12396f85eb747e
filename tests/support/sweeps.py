"""Helpers for sweep tests: an executor without a sweep, other services, logins during a sweep."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any, cast

from flask import Flask

from auth.identity import Identity
from core.database import background_transaction
from provisioning.ensure import EnsureResult
from provisioning.service import ProvisioningService
from sweep import runs
from sweep.executor import SOURCE, SweepCounts, SweepExecutor
from sweep.heartbeat import Heartbeat
from sweep.sweeper import Sweeper
from tests.support.users import NOW, PAGE
from web.services import EXTENSION


def executor_of(sweeper: Sweeper) -> SweepExecutor:
    """The executor of a run that has just started, whose heartbeat has no thread."""
    with background_transaction() as session:
        run = runs.start(session, trigger="cli", dry_run=False, owner=sweeper.owner)
    heartbeat = Heartbeat(run.id, sweeper.owner, should_stop=sweeper.should_stop)
    return SweepExecutor(heartbeat, sweeper.provisioning, SweepCounts(), sweeper.now)


def with_service(sweeper: Sweeper, **methods: Callable[[str], object]) -> Sweeper:
    """The sweeper with other functions of a Clerk id in place of methods of its service."""
    return replace(sweeper, provisioning=cast(ProvisioningService, _Service(sweeper, methods)))


class _Service:
    def __init__(self, sweeper: Sweeper, methods: Mapping[str, Callable[[str], object]]) -> None:
        self._service, self._methods = sweeper.provisioning, methods

    def __getattr__(self, name: str) -> Any:
        method = self._methods.get(name)
        if method is None:
            return getattr(self._service, name)
        return lambda user, **_: method(user.clerk_id if isinstance(user, Identity) else user)


def ensure_by(sweeper: Sweeper, clerk_id: str) -> EnsureResult:
    """Ensure a user as the sweeper does."""
    return sweeper.provisioning.ensure(Identity(clerk_id), source=SOURCE, now=sweeper.now())


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
        Sweeper(provisioning, batch_size=10).start("cli")
        for login in logins:
            login.result(timeout=10)
