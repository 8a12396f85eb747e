"""Single flight: equal calls share one execution."""

from concurrent.futures import Future

import pytest

from core.single_flight import SingleFlight
from tests.support.concurrency import Clock


class Starter:
    """Starts calls and counts them; the test sets their results."""

    def __init__(self) -> None:
        self.futures: list[Future[str]] = []

    def __call__(self) -> Future[str]:
        self.futures.append(Future())
        return self.futures[-1]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def flight(clock: Clock) -> SingleFlight:
    return SingleFlight(clock)


def test_equal_calls_share_one_execution(flight: SingleFlight) -> None:
    start = Starter()

    first, second = flight.share("k", start), flight.share("k", start)

    assert (first is second, len(start.futures)) == (True, 1)


def test_different_keys_are_different_calls(flight: SingleFlight) -> None:
    start = Starter()

    assert flight.share("a", start) is not flight.share("b", start)


@pytest.mark.parametrize(("pause", "calls"), [(0, 1), (4.9, 1), (5, 2)])
def test_result_is_shared_for_the_requested_time(
    flight: SingleFlight, clock: Clock, pause: float, calls: int
) -> None:
    start = Starter()
    flight.share("k", start, keep_seconds=5)
    start.futures[0].set_result("answer")

    clock.seconds += pause
    flight.share("k", start, keep_seconds=5)

    assert len(start.futures) == calls


def test_call_without_keep_time_shares_only_running_calls(flight: SingleFlight) -> None:
    start = Starter()
    flight.share("k", start, keep_seconds=5)
    flight.share("k", start)
    start.futures[0].set_result("answer")

    flight.share("k", start)

    assert len(start.futures) == 2


def test_error_is_not_kept(flight: SingleFlight) -> None:
    start = Starter()
    flight.share("k", start, keep_seconds=5)
    start.futures[0].set_exception(OSError())

    flight.share("k", start, keep_seconds=5)

    assert len(start.futures) == 2


def test_call_that_could_not_start_leaves_nothing(flight: SingleFlight) -> None:
    def fail_to_start() -> Future[str]:
        raise OSError("no call may be made")

    start = Starter()
    with pytest.raises(OSError, match="no call"):
        flight.share("k", fail_to_start)

    flight.share("k", start)

    assert len(start.futures) == 1


def test_cost_of_a_call_does_not_grow_with_the_kept_results(
    flight: SingleFlight, clock: Clock
) -> None:
    """5 000 logins in five seconds took quadratic time."""
    looked_at = 0

    class CountingFuture(Future[str]):
        def done(self) -> bool:
            nonlocal looked_at
            looked_at += 1
            return super().done()

    def start() -> Future[str]:
        future = CountingFuture()
        future.set_result("answer")
        return future

    for number in range(1_000):
        clock.seconds += 0.01
        flight.share(number, start, keep_seconds=5)

    assert looked_at < 4 * 1_000
