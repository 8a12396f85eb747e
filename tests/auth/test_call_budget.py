"""The budget of calls: within the provider's limits, and no share at the cost of another."""

from contextlib import suppress

import pytest

from auth.call_budget import DEVELOPMENT, PRODUCTION, CallBudget, Rate, Share
from auth.errors import ProviderUnavailableError
from tests.support.concurrency import Clock

BURST = 5
OTHERS = [share for share in Share if share is not Share.SIGNED_IN]


@pytest.fixture
def budget(clock: Clock) -> CallBudget:
    """Five calls in a row, and one every two seconds."""
    return CallBudget(Rate(burst=BURST, per_second=0.5), clock)


def paid(budget: CallBudget, calls: int = 2 * BURST, share: Share = Share.SIGNED_IN) -> int:
    """How many of so many calls are paid for."""
    count = 0
    for _ in range(calls):
        with suppress(ProviderUnavailableError):
            budget.take(share)
            count += 1
    return count


def test_burst_is_paid_and_no_more(budget: CallBudget) -> None:
    assert paid(budget) == BURST


@pytest.mark.parametrize(("pause", "expected"), [(1.9, 0), (2, 1), (5.9, 2), (600, BURST)])
def test_budget_is_refilled_with_time(
    budget: CallBudget, clock: Clock, pause: float, expected: int
) -> None:
    paid(budget)

    clock.seconds += pause

    assert paid(budget) == expected


def test_budget_is_refilled_in_small_steps_too(budget: CallBudget, clock: Clock) -> None:
    paid(budget)

    clock.seconds += 1.5
    early = paid(budget)
    clock.seconds += 0.5

    assert (early, paid(budget)) == (0, 1)


def test_refusal_says_for_how_long(budget: CallBudget, clock: Clock) -> None:
    paid(budget)
    clock.seconds += 0.5

    with pytest.raises(ProviderUnavailableError) as caught:
        budget.take(Share.SIGNED_IN)

    assert caught.value.wait_seconds == 1.5


@pytest.mark.parametrize(("rate", "allowed"), [(PRODUCTION, 1000), (DEVELOPMENT, 100)])
def test_ten_seconds_leave_half_of_the_limit_to_others(
    clock: Clock, rate: Rate, allowed: int
) -> None:
    budget = CallBudget(rate, clock)
    made = 0

    for _ in range(11):
        made += sum(paid(budget, allowed, share) for share in Share if share is not Share.KEYS)
        clock.seconds += 1

    assert 0.45 * allowed <= made <= 0.5 * allowed


INSTANCES = pytest.mark.parametrize(
    "rate", [PRODUCTION, DEVELOPMENT], ids=["production", "development"]
)


@INSTANCES
@pytest.mark.parametrize("share", [Share.ANONYMOUS, Share.SIGN_OUT, Share.KEYS])
def test_calls_that_any_client_can_cause_have_a_fifth_at_most(
    clock: Clock, rate: Rate, share: Share
) -> None:
    budget = CallBudget(rate, clock)

    assert 1 <= paid(budget, 1000, share) <= max(10, 0.2 * rate.burst)
    assert paid(budget, 1000) >= 0.7 * rate.burst


def test_all_shares_together_leave_calls_to_users_who_sign_in(clock: Clock) -> None:
    budget = CallBudget(PRODUCTION, clock)
    for share in OTHERS:
        paid(budget, 1000, share)

    assert paid(budget, 1000) >= 0.2 * PRODUCTION.burst


@INSTANCES
@pytest.mark.parametrize("share", [Share.ANONYMOUS, Share.SIGN_OUT, Share.KEYS])
def test_rush_of_new_users_leaves_calls_to_those_who_come_back(
    clock: Clock, rate: Rate, share: Share
) -> None:
    budget = CallBudget(rate, clock)
    for signed_in in (Share.SIGNED_IN, Share.BACKGROUND):
        paid(budget, 1000, signed_in)

    assert paid(budget, 1000, share) >= 2


def test_background_makes_a_hundred_calls_a_minute(clock: Clock) -> None:
    budget = CallBudget(PRODUCTION, clock)
    paid(budget, 1000, Share.BACKGROUND)

    made = 0
    for _ in range(60):
        clock.seconds += 1
        made += paid(budget, 9, Share.BACKGROUND)

    assert made in (99, 100)  # fractions of a token
