"""The circuit breaker: it refuses what has just failed, probes it, and resumes."""

import pytest

from core.circuit_breaker import CircuitBreaker, CircuitOpenError
from tests.support.concurrency import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(clock=clock)


def admitted(breaker: CircuitBreaker, calls: int = 9, *, may_probe: bool = False) -> int:
    """Return how many of `calls` calls the breaker admits."""
    count = 0
    for _ in range(calls):
        try:
            breaker.check(may_probe=may_probe)
        except CircuitOpenError:
            continue
        breaker.note_call()
        count += 1
    return count


def test_closed_breaker_admits_all_calls(breaker: CircuitBreaker) -> None:
    assert (breaker.is_closed, admitted(breaker)) == (True, 9)


def test_open_breaker_refuses_all_calls_with_a_waiting_time(breaker: CircuitBreaker) -> None:
    breaker.note_failure()

    with pytest.raises(CircuitOpenError) as caught:
        breaker.check()

    assert (caught.value.wait_seconds, breaker.is_closed) == (1.0, False)


@pytest.mark.parametrize(("failures", "pause"), [(1, 1), (2, 2), (3, 4), (4, 5), (5, 5), (3000, 5)])
def test_pause_doubles_with_each_failure_up_to_its_cap(
    breaker: CircuitBreaker, clock: Clock, failures: int, pause: float
) -> None:
    for _ in range(failures):
        breaker.note_failure()

    clock.seconds += pause - 0.1
    before = admitted(breaker)
    clock.seconds += 0.1

    assert (before, admitted(breaker)) == (0, 1)


def test_pause_counts_from_the_last_failure(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.note_failure()
    clock.seconds += 1
    breaker.note_failure()

    clock.seconds += 1.9

    assert admitted(breaker) == 0


def test_unanswered_probe_is_followed_by_another(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.note_failure()
    clock.seconds += 1
    admitted(breaker)

    clock.seconds += 1

    assert admitted(breaker) == 1


def test_success_admits_all_calls_again(breaker: CircuitBreaker) -> None:
    breaker.note_failure()
    breaker.note_success()

    assert admitted(breaker) == 9


def test_success_resets_the_failure_count(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.note_failure()
    breaker.note_failure()
    breaker.note_success()
    breaker.note_failure()

    clock.seconds += 1

    assert admitted(breaker) == 1


def test_caller_that_may_probe_is_admitted_during_the_pause(breaker: CircuitBreaker) -> None:
    breaker.note_failure()

    assert admitted(breaker, 1, may_probe=True) == 1


@pytest.mark.parametrize("may_probe", [False, True])
def test_rest_period_refuses_all_calls(
    breaker: CircuitBreaker, clock: Clock, may_probe: bool
) -> None:
    breaker.refuse_for(7)

    clock.seconds += 6.9
    before = admitted(breaker, may_probe=may_probe)
    clock.seconds += 0.1

    assert (before, admitted(breaker)) == (0, 9)


def test_rest_period_is_not_shortened_by_results_of_earlier_calls(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    breaker.refuse_for(7)
    breaker.refuse_for(1)
    breaker.note_failure()
    breaker.note_success()

    clock.seconds += 6.9

    assert admitted(breaker, may_probe=True) == 0
