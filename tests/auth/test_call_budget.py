"""The call budget stays within the provider's limits; no purpose uses up the budget of another."""

from contextlib import suppress

import pytest

from auth.errors import ProviderUnavailableError
from auth.provider_calls import DEVELOPMENT, PRODUCTION, CallBudget, Purpose, Rate
from tests.support.concurrency import Clock

BURST = 5
OTHER_SHARES = [purpose for purpose in Purpose if purpose is not Purpose.SIGNED_IN]


@pytest.fixture
def budget(clock: Clock) -> CallBudget:
    """A budget of five calls at once and one call every two seconds."""
    return CallBudget(Rate(burst=BURST, per_second=0.5), clock)


def allowed_calls(
    budget: CallBudget, calls: int = 2 * BURST, purpose: Purpose = Purpose.SIGNED_IN
) -> int:
    """Return how many of `calls` calls the budget allows."""
    count = 0
    for _ in range(calls):
        with suppress(ProviderUnavailableError):
            budget.take(purpose)
            count += 1
    return count


def test_budget_allows_one_burst(budget: CallBudget) -> None:
    assert allowed_calls(budget) == BURST


@pytest.mark.parametrize(("pause", "expected"), [(1.9, 0), (2, 1), (5.9, 2), (600, BURST)])
def test_budget_is_refilled_with_time(
    budget: CallBudget, clock: Clock, pause: float, expected: int
) -> None:
    allowed_calls(budget)

    clock.seconds += pause

    assert allowed_calls(budget) == expected


def test_budget_is_refilled_in_small_steps_too(budget: CallBudget, clock: Clock) -> None:
    allowed_calls(budget)

    clock.seconds += 1.5
    early = allowed_calls(budget)
    clock.seconds += 0.5

    assert (early, allowed_calls(budget)) == (0, 1)


def test_refused_call_gets_a_waiting_time(budget: CallBudget, clock: Clock) -> None:
    allowed_calls(budget)
    clock.seconds += 0.5

    with pytest.raises(ProviderUnavailableError) as caught:
        budget.take(Purpose.SIGNED_IN)

    assert caught.value.wait_seconds == 1.5


@pytest.mark.parametrize(("rate", "allowed"), [(PRODUCTION, 1000), (DEVELOPMENT, 100)])
def test_ten_seconds_leave_half_of_the_limit_to_others(
    clock: Clock, rate: Rate, allowed: int
) -> None:
    budget = CallBudget(rate, clock)
    calls = 0

    for _ in range(11):
        calls += sum(
            allowed_calls(budget, allowed, purpose)
            for purpose in Purpose
            if purpose is not Purpose.KEYS
        )
        clock.seconds += 1

    assert 0.45 * allowed <= calls <= 0.5 * allowed


INSTANCES = pytest.mark.parametrize(
    "rate", [PRODUCTION, DEVELOPMENT], ids=["production", "development"]
)


@INSTANCES
@pytest.mark.parametrize("purpose", [Purpose.ANONYMOUS, Purpose.SIGN_OUT, Purpose.KEYS])
def test_calls_that_any_client_can_cause_get_a_fifth_at_most(
    clock: Clock, rate: Rate, purpose: Purpose
) -> None:
    budget = CallBudget(rate, clock)

    assert 1 <= allowed_calls(budget, 1000, purpose) <= max(10, 0.2 * rate.burst)
    assert allowed_calls(budget, 1000) >= 0.7 * rate.burst


def test_other_shares_together_leave_calls_to_sign_ins(clock: Clock) -> None:
    budget = CallBudget(PRODUCTION, clock)
    for purpose in OTHER_SHARES:
        allowed_calls(budget, 1000, purpose)

    assert allowed_calls(budget, 1000) >= 0.1 * PRODUCTION.burst


@INSTANCES
@pytest.mark.parametrize("purpose", [Purpose.ANONYMOUS, Purpose.SIGN_OUT, Purpose.KEYS])
def test_many_sign_ins_leave_calls_to_handshakes_and_keys(
    clock: Clock, rate: Rate, purpose: Purpose
) -> None:
    budget = CallBudget(rate, clock)
    for signed_in in (Purpose.SIGNED_IN, Purpose.BACKGROUND):
        allowed_calls(budget, 1000, signed_in)

    assert allowed_calls(budget, 1000, purpose) >= 2


def test_background_gets_a_hundred_calls_a_minute(clock: Clock) -> None:
    budget = CallBudget(PRODUCTION, clock)
    allowed_calls(budget, 1000, Purpose.BACKGROUND)

    calls = 0
    for _ in range(60):
        clock.seconds += 1
        calls += allowed_calls(budget, 9, Purpose.BACKGROUND)

    assert calls in (99, 100)  # fractions of a token


def test_reading_whether_a_call_is_left_takes_none() -> None:
    budget = CallBudget(Rate(burst=5, per_second=0), Clock())
    before = [budget.has_call(Purpose.ANONYMOUS) for _ in range(3)]

    budget.take(Purpose.ANONYMOUS)

    assert (before, budget.has_call(Purpose.ANONYMOUS)) == ([True] * 3, False)
