"""The scheduler polls while the installation is in use, and leaves an idle database alone."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, event, func, select
from sqlalchemy.orm import Session

from core.activity import Activity
from models import Mentorado, ProvisioningAttempt, SweepRun, User
from models.background import UNUSABLE_ANSWER
from sweep.scheduler import SETTLING_SECONDS, Poller
from sweep.sweeper import Sweeper
from tests.support.concurrency import Clock
from tests.support.sweeps import with_service
from web.services import Services

IDLE_SECONDS, IDLE_INTERVAL = 240, timedelta(hours=6)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def activity(clock: Clock) -> Activity:
    """The activity of a process that has just started."""
    return Activity(IDLE_SECONDS, clock=clock)


@pytest.fixture
def poller(services: Services, session: Session, activity: Activity, clock: Clock) -> Poller:
    """A poller of a scheduler whose interval is an hour."""
    sweeper = Sweeper(services.provisioning, interval=timedelta(hours=1))
    return Poller(sweeper, activity, IDLE_INTERVAL, monotonic=clock)


@pytest.fixture
def is_polling(poller: Poller, connection: Connection) -> Iterator[Callable[[], bool]]:
    """Return a function that polls and returns whether a statement was sent."""
    statements: list[str] = []

    def record(_: object, __: object, statement: str, *___: object) -> None:
        statements.append(statement)

    def poll() -> bool:
        statements.clear()
        poller.poll()
        return bool(statements)

    event.listen(connection, "before_cursor_execute", record)
    yield poll
    event.remove(connection, "before_cursor_execute", record)


@pytest.fixture
def idle(poller: Poller, clock: Clock) -> Callable[[], None]:
    """Return a function that makes the installation idle and polls once."""

    def make_idle() -> None:
        clock.seconds += IDLE_SECONDS
        poller.poll()

    return make_idle


def add_attempt(session: Session, due_in: timedelta, error: str = "OperationalError") -> None:
    """Add a failed attempt of a user without an account row."""
    now = datetime.now(UTC)
    times = {"first_failed_at": now, "last_failed_at": now, "next_attempt_at": now + due_in}
    attempt = ProvisioningAttempt(clerk_id="user_eva", state="pending", attempts=1, **times)
    attempt.error_class = error
    session.add(attempt)
    session.commit()


def add_run(session: Session, **values: object) -> None:
    session.add(SweepRun(trigger="clock", created_at=func.now(), **values))
    session.commit()


def test_database_is_polled_every_second_while_in_use(
    is_polling: Callable[[], bool], clock: Clock
) -> None:
    polled = []
    for _ in range(3):
        polled.append(is_polling())
        clock.seconds += 1

    assert polled == [True] * 3


def test_idle_database_is_left_alone_until_the_longest_time_without_a_sweep(
    is_polling: Callable[[], bool], idle: Callable[[], None], clock: Clock
) -> None:
    idle()

    early = [is_polling()]
    clock.seconds += IDLE_INTERVAL.total_seconds() - 60
    early.append(is_polling())
    clock.seconds += 60

    assert (early, is_polling()) == ([False, False], True)


def test_longest_time_without_a_sweep_holds_for_a_longer_interval(
    session: Session, poller: Poller, is_polling: Callable[[], bool], idle: Callable[[], None]
) -> None:
    assert poller.sweeper is not None
    poller.sweeper = replace(poller.sweeper, interval=timedelta(days=7))
    session.add(
        SweepRun(status="succeeded", trigger="clock", created_at=func.now() - IDLE_INTERVAL)
    )
    session.commit()

    idle()

    assert not is_polling()
    assert session.scalars(select(func.count(SweepRun.id))).one() == 2


def test_use_ends_the_idle_time(
    is_polling: Callable[[], bool], idle: Callable[[], None], activity: Activity
) -> None:
    idle()
    before = is_polling()

    activity.note_use()

    assert (before, is_polling()) == (False, True)


def test_last_sweep_before_idle_time_serves_users_who_came_after_the_one_before(
    session: Session, poller: Poller, idle: Callable[[], None]
) -> None:
    half_an_hour_ago = func.now() - timedelta(minutes=30)
    session.add(SweepRun(status="succeeded", trigger="clock", created_at=half_an_hour_ago))
    session.add(User(clerk_id="user_eva", identity_completed_at=func.now()))
    session.commit()
    poller.poll()
    before = session.scalars(select(func.count(Mentorado.id))).one()

    idle()

    assert (before, session.scalars(select(func.count(Mentorado.id))).one()) == (0, 1)


@pytest.mark.parametrize("status", ["queued", "running"])
def test_run_of_a_process_that_may_die_keeps_the_database_awake(
    session: Session, is_polling: Callable[[], bool], idle: Callable[[], None], status: str
) -> None:
    add_run(session, status="succeeded")
    add_run(session, status=status, owner="another", heartbeat_at=func.now())
    poller_takes_queued_runs = status == "queued"

    idle()

    assert is_polling() is not poller_takes_queued_runs


def test_due_attempt_ends_the_idle_time(
    session: Session, poller: Poller, is_polling: Callable[[], bool], clock: Clock
) -> None:
    poller.sweeper = replace(poller.sweeper, interval=MINUTE) if poller.sweeper else None
    clock.seconds += IDLE_SECONDS
    add_attempt(session, timedelta(minutes=10))
    poller.poll()

    clock.seconds += 590
    early = is_polling()
    clock.seconds += 15

    assert (early, is_polling()) == (False, True)


def test_attempt_about_an_identity_without_a_user_does_not_end_the_idle_time(
    session: Session, poller: Poller, is_polling: Callable[[], bool], clock: Clock
) -> None:
    clock.seconds += IDLE_SECONDS
    add_attempt(session, timedelta(0), UNUSABLE_ANSWER)
    poller.poll()
    clock.seconds += IDLE_INTERVAL.total_seconds() - 60

    assert not is_polling()


def test_incomplete_identity_is_looked_up_every_minute_while_idle(
    session: Session, poller: Poller, is_polling: Callable[[], bool], clock: Clock
) -> None:
    assert poller.sweeper is not None
    poller.sweeper = with_service(poller.sweeper, complete_from_clerk=lambda _: None)
    session.add(User(clerk_id="user_eva"))
    session.commit()
    clock.seconds += IDLE_SECONDS
    poller.poll()

    clock.seconds += 55
    early = is_polling()
    clock.seconds += 10

    assert (early, is_polling()) == (False, True)


def test_process_without_sweeps_sends_nothing(
    poller: Poller, is_polling: Callable[[], bool], idle: Callable[[], None]
) -> None:
    poller.sweeper = None

    in_use = is_polling()
    idle()

    assert (in_use, is_polling()) == (False, False)


def test_readings_are_renewed_once_when_the_installation_becomes_idle(
    poller: Poller, idle: Callable[[], None], activity: Activity, clock: Clock
) -> None:
    calls: list[str] = []
    poller.on_idle = lambda: calls.append("idle")

    def settle() -> int:
        idle()
        clock.seconds += SETTLING_SECONDS
        poller.poll()
        poller.poll()
        return len(calls)

    first = settle()
    activity.note_use()
    poller.poll()

    assert (first, settle()) == (1, 2)


def test_readings_follow_the_last_sweep_of_other_processes(
    poller: Poller, idle: Callable[[], None]
) -> None:
    calls: list[str] = []
    poller.on_idle = lambda: calls.append("idle")

    idle()

    assert calls == []
