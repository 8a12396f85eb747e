"""Whether the database is away: learned by one attempt at a time, forgotten at a success."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Event

import pytest
from psycopg2 import OperationalError

from deadlines import DeadlineError
from outage import KnownOutageError, Outage
from tests.crowding import Clock


@pytest.fixture
def outage(clock: Clock) -> Outage:
    return Outage(clock)


def fail(outage: Outage, error: Exception | None = None) -> None:
    with pytest.raises(OperationalError), outage.connecting():
        raise error or OperationalError("refused")


@contextmanager
def probing(outage: Outage) -> Iterator[None]:
    """Somebody else is in the middle of an attempt."""
    inside, leave = Event(), Event()

    def probe() -> None:
        with outage.connecting():
            inside.set()
            leave.wait(timeout=10)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(probe)
        inside.wait(timeout=10)
        yield
        leave.set()


def test_server_that_was_always_there_is_not_away(outage: Outage) -> None:
    with outage.connecting():
        pass

    assert outage.seconds == 0


def test_outage_lasts_from_the_first_failure_on(outage: Outage, clock: Clock) -> None:
    fail(outage)
    clock.seconds += 3
    fail(outage)
    clock.seconds += 4

    assert outage.seconds == 7


def test_first_success_ends_the_outage(outage: Outage, clock: Clock) -> None:
    fail(outage)
    clock.seconds += 3

    with outage.connecting():
        pass

    assert outage.seconds == 0


def test_attempt_beside_a_probe_is_refused(outage: Outage) -> None:
    fail(outage)

    with probing(outage), pytest.raises(KnownOutageError), outage.connecting():
        pass


def test_attempts_beside_each_other_are_free_while_there_is_no_outage(outage: Outage) -> None:
    with probing(outage), outage.connecting():
        assert outage.seconds == 0


@pytest.mark.parametrize(("taken_seconds", "is_outage"), [(0.1, False), (0.3, True)])
def test_only_an_attempt_that_had_its_time_tells_of_an_outage(
    outage: Outage, clock: Clock, taken_seconds: float, is_outage: bool
) -> None:
    with suppress(DeadlineError), outage.connecting():
        clock.seconds += taken_seconds
        raise DeadlineError("no time left")
    clock.seconds += 1

    assert (outage.seconds > 0) is is_outage
