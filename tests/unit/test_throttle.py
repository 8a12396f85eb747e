"""The throttle: within the provider's limits, and gentle with it while it is in trouble."""

from contextlib import suppress

import pytest

from identity.errors import ProviderUnavailableError
from identity.throttle import DEVELOPMENT, PRODUCTION, Budget, Throttle
from tests.crowding import Clock

BURST = 5


@pytest.fixture
def throttle(clock: Clock) -> Throttle:
    """Five questions in a row, and one every two seconds."""
    return Throttle(Budget(burst=BURST, per_second=0.5), clock)


@pytest.fixture
def closed(throttle: Throttle) -> Throttle:
    """The same, just after a failure."""
    throttle.failed()
    return throttle


def admitted(throttle: Throttle, questions: int = 2 * BURST, *, is_background: bool = False) -> int:
    """How many of so many questions are let through."""
    count = 0
    for _ in range(questions):
        with suppress(ProviderUnavailableError):
            throttle.admit(is_background=is_background)
            count += 1
    return count


def test_burst_is_let_through_and_no_more(throttle: Throttle) -> None:
    assert admitted(throttle) == BURST


@pytest.mark.parametrize(("pause", "expected"), [(1.9, 0), (2, 1), (5.9, 2), (600, BURST)])
def test_budget_is_refilled_with_time(
    throttle: Throttle, clock: Clock, pause: float, expected: int
) -> None:
    admitted(throttle)

    clock.seconds += pause

    assert admitted(throttle) == expected


def test_budget_is_refilled_in_small_steps_too(throttle: Throttle, clock: Clock) -> None:
    admitted(throttle)

    clock.seconds += 1.5
    early = admitted(throttle)
    clock.seconds += 0.5

    assert (early, admitted(throttle)) == (0, 1)


def test_silence_saves_nothing_beyond_the_burst(throttle: Throttle, clock: Clock) -> None:
    clock.seconds += 600

    assert admitted(throttle) == BURST


def test_failure_refuses_everybody_at_once(closed: Throttle) -> None:
    with pytest.raises(ProviderUnavailableError, match="just failed"):
        closed.admit()


def test_refused_questions_cost_nothing(closed: Throttle) -> None:
    admitted(closed)

    closed.succeeded()

    assert admitted(closed) == BURST


@pytest.mark.parametrize(("failures", "pause"), [(1, 1), (2, 2), (3, 4), (4, 5), (5, 5), (3000, 5)])
def test_pause_doubles_with_each_failure_up_to_its_cap(
    throttle: Throttle, clock: Clock, failures: int, pause: float
) -> None:
    for _ in range(failures):
        throttle.failed()

    clock.seconds += pause - 0.1
    before = admitted(throttle)
    clock.seconds += 0.1

    assert (before, admitted(throttle)) == (0, 1)


def test_pause_counts_from_the_last_failure(closed: Throttle, clock: Clock) -> None:
    clock.seconds += 1
    closed.failed()

    clock.seconds += 1.9

    assert admitted(closed) == 0


def test_one_question_after_the_pause_finds_out_for_all(closed: Throttle, clock: Clock) -> None:
    clock.seconds += 1

    assert admitted(closed) == 1


def test_question_that_is_never_answered_is_followed_by_another(
    closed: Throttle, clock: Clock
) -> None:
    clock.seconds += 1
    admitted(closed)

    clock.seconds += 1

    assert admitted(closed) == 1


def test_spent_budget_holds_after_a_failure_too(throttle: Throttle, clock: Clock) -> None:
    admitted(throttle)
    throttle.failed()

    clock.seconds += 1

    assert admitted(throttle) == 0


def test_success_lets_everybody_through_again(closed: Throttle) -> None:
    closed.succeeded()

    assert admitted(closed) == BURST


def test_failure_after_a_success_is_a_first_one(throttle: Throttle, clock: Clock) -> None:
    throttle.failed()
    throttle.failed()
    throttle.succeeded()
    throttle.failed()

    clock.seconds += 1

    assert admitted(throttle) == 1


def test_background_may_ask_although_the_provider_has_just_failed(closed: Throttle) -> None:
    assert admitted(closed, 1, is_background=True) == 1


def test_background_keeps_to_the_budget(closed: Throttle) -> None:
    assert admitted(closed, is_background=True) == BURST


def test_background_question_lets_no_other_through(closed: Throttle) -> None:
    admitted(closed, 1, is_background=True)

    assert admitted(closed) == 0


@pytest.mark.parametrize("is_background", [False, True])
def test_provider_that_wants_to_be_left_alone_is(
    closed: Throttle, clock: Clock, is_background: bool
) -> None:
    closed.told_to_wait(7)

    clock.seconds += 6.9

    assert admitted(closed, is_background=is_background) == 0


def test_wait_is_not_shortened_by_what_was_under_way(closed: Throttle, clock: Clock) -> None:
    closed.told_to_wait(7)
    closed.told_to_wait(1)
    closed.failed()
    closed.succeeded()

    clock.seconds += 6.9

    assert admitted(closed, is_background=True) == 0


def refusal(throttle: Throttle, *, is_background: bool = False) -> ProviderUnavailableError:
    """Why, and for how long, the next question is refused."""
    with pytest.raises(ProviderUnavailableError) as caught:
        throttle.admit(is_background=is_background)
    return caught.value


def test_refusal_says_for_how_long(throttle: Throttle, clock: Clock) -> None:
    admitted(throttle)
    clock.seconds += 0.5
    spent = refusal(throttle).wait_seconds
    throttle.failed()
    failed = refusal(throttle).wait_seconds
    throttle.told_to_wait(7)

    assert (spent, failed, refusal(throttle).wait_seconds) == (1.5, 1.0, 7.0)


def test_background_has_a_rate_of_its_own(clock: Clock) -> None:
    throttle = Throttle(Budget(9, 9), clock, background=Budget(burst=2, per_second=0.1))
    first = admitted(throttle, is_background=True)

    clock.seconds += 10

    assert (first, admitted(throttle, is_background=True), admitted(throttle)) == (2, 1, 8)


def test_background_share_of_a_minute_is_a_hundred(clock: Clock) -> None:
    throttle = Throttle(PRODUCTION, clock)
    admitted(throttle, 1000, is_background=True)

    asked = 0
    for _ in range(60):
        clock.seconds += 1
        asked += admitted(throttle, 9, is_background=True)

    assert asked in (99, 100)  # fractions of a token


def test_everybody_may_ask_after_the_wait(closed: Throttle, clock: Clock) -> None:
    closed.told_to_wait(7)

    clock.seconds += 7

    assert admitted(closed) == BURST


@pytest.mark.parametrize(("budget", "allowed"), [(PRODUCTION, 1000), (DEVELOPMENT, 100)])
def test_ten_seconds_leave_half_of_the_limit_to_others(
    clock: Clock, budget: Budget, allowed: int
) -> None:
    throttle = Throttle(budget, clock)
    asked = admitted(throttle, allowed)

    for _ in range(10):
        clock.seconds += 1
        asked += admitted(throttle, allowed)

    assert asked == allowed / 2
