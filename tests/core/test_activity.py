"""Whether the installation is in use or idle, as its processes share it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from flask import Flask

from benchmarks.servers import RedisServer
from core.activity import EXCHANGE_SECONDS, Activity, LastUseFile, LastUseInRedis, LastUseStore
from core.cache import Store
from core.database import cache
from tests.support.apps import create_app_on
from tests.support.concurrency import Clock

IDLE_SECONDS = 240


class SharedTime:
    """The time of the last use in memory; None where no web process has written one."""

    def __init__(self) -> None:
        self.moment: float | None = None

    def read(self) -> float | None:
        return self.moment

    def write(self, moment: float) -> None:
        self.moment = moment


@pytest.fixture
def shared() -> SharedTime:
    return SharedTime()


@pytest.fixture
def activity(shared: SharedTime, clock: Clock) -> Activity:
    """The activity of a web process that has just started."""
    return Activity(IDLE_SECONDS, shared, clock)


def idle_after(activity: Activity, clock: Clock, seconds: float) -> bool:
    clock.seconds += seconds
    activity.exchange()
    return activity.is_idle


def test_installation_is_idle_so_long_after_its_last_use(activity: Activity, clock: Clock) -> None:
    clock.seconds += 100
    activity.note_use()

    before, after = idle_after(activity, clock, IDLE_SECONDS - 1), idle_after(activity, clock, 1)

    assert (before, after) == (False, True)


def test_zero_seconds_mean_never_idle(clock: Clock) -> None:
    assert not idle_after(Activity(0, None, clock), clock, 1e9)


def test_first_use_after_idle_time_wakes_the_scheduler(activity: Activity, clock: Clock) -> None:
    calls: list[str] = []
    activity.wake_scheduler = lambda: calls.append("wake")
    activity.note_use()
    clock.seconds += IDLE_SECONDS

    activity.note_use()
    activity.note_use()

    assert (calls, activity.is_idle) == (["wake"], False)


def test_use_is_published_at_once_after_idle_time(
    activity: Activity, shared: SharedTime, clock: Clock
) -> None:
    idle_after(activity, clock, IDLE_SECONDS)

    activity.note_use()
    activity.exchange()

    assert shared.moment == clock.seconds


def test_use_by_another_process_ends_idle_time(
    activity: Activity, shared: SharedTime, clock: Clock
) -> None:
    was_idle = idle_after(activity, clock, IDLE_SECONDS)
    shared.moment = clock.seconds

    assert (was_idle, idle_after(activity, clock, EXCHANGE_SECONDS)) == (True, False)


def test_clock_of_another_host_that_is_ahead_does_not_delay_idle_time(
    activity: Activity, shared: SharedTime, clock: Clock
) -> None:
    shared.moment = clock.seconds + 3600
    activity.exchange()

    assert idle_after(activity, clock, IDLE_SECONDS)


def test_process_without_requests_is_not_idle_while_it_knows_of_no_web_process(
    activity: Activity, shared: SharedTime, clock: Clock
) -> None:
    activity.serves_requests = False
    unknown = idle_after(activity, clock, IDLE_SECONDS)
    shared.moment = clock.seconds
    idle_after(activity, clock, EXCHANGE_SECONDS)

    assert (unknown, idle_after(activity, clock, IDLE_SECONDS)) == (False, True)


def test_process_without_requests_publishes_no_use(activity: Activity, shared: SharedTime) -> None:
    activity.serves_requests = False

    activity.exchange()

    assert shared.moment is None


@pytest.fixture
def app(tmp_path: Path, template_url: str, redis: RedisServer) -> Iterator[Flask]:
    with create_app_on(tmp_path, template_url, redis_url=redis.url) as app:
        yield app


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(
    "open_shared",
    [LastUseFile, lambda _: LastUseInRedis(cast(Store, cache.cache))],
    ids=["file", "redis"],
)
def test_last_use_is_shared_between_processes(
    open_shared: Callable[[Path], LastUseStore], tmp_path: Path
) -> None:
    first, second = open_shared(tmp_path), open_shared(tmp_path)
    before = second.read()

    first.write(1_700_000_000.25)

    assert (before, second.read()) == (None, 1_700_000_000.25)


def test_time_of_a_web_process_that_has_ended_is_unknown(tmp_path: Path) -> None:
    shared = LastUseFile(tmp_path)
    shared.write(1_700_000_000)
    os.utime(tmp_path / "last_use", (1_700_000_000, 1_700_000_000))

    assert shared.read() is None


def test_unwritable_folder_makes_the_last_use_unknown(tmp_path: Path) -> None:
    shared = LastUseFile(tmp_path / "missing")

    shared.write(1.0)

    assert shared.read() is None


def test_unreachable_redis_makes_the_last_use_unknown(tmp_path: Path, template_url: str) -> None:
    with create_app_on(tmp_path, template_url, redis_url="redis://127.0.0.1:1/0"):
        shared = LastUseInRedis(cast(Store, cache.cache))
        shared.write(1.0)

        assert shared.read() is None
