"""Requests granted ahead: to the busy alone, for a moment, and never more than were counted."""

import pytest

from core.rate_limit import MOST, MOST_PREFETCHES, SECONDS, TokenPrefetch
from tests.support.concurrency import Clock

ANA = "ana"


@pytest.fixture
def leases(clock: Clock) -> TokenPrefetch:
    return TokenPrefetch(clock)


def spent(leases: TokenPrefetch) -> int:
    """How many requests there were left."""
    return sum(leases.consume(ANA) for _ in range(2 * MOST))


def test_nobody_is_granted_anything_unasked(leases: TokenPrefetch) -> None:
    assert (leases.consume(ANA), leases.next_size(ANA)) == (False, 1)


def test_as_many_as_were_counted_may_be_spent(leases: TokenPrefetch) -> None:
    leases.store(ANA, 8)

    assert spent(leases) == 8 - 1


def test_whoever_has_used_up_theirs_in_time_asks_for_twice_as_many(leases: TokenPrefetch) -> None:
    leases.store(ANA, 4)
    spent(leases)

    assert leases.next_size(ANA) == 8


def test_whoever_has_some_left_asks_for_one(leases: TokenPrefetch) -> None:
    leases.store(ANA, 4)

    assert leases.next_size(ANA) == 1


def test_what_was_granted_to_two_requests_at_once_adds_up(leases: TokenPrefetch) -> None:
    leases.store(ANA, 8)
    leases.store(ANA, 8)

    assert spent(leases) == 2 * (8 - 1)


def test_grant_that_is_over_adds_nothing(leases: TokenPrefetch, clock: Clock) -> None:
    leases.store(ANA, 8)
    clock.seconds += SECONDS
    leases.store(ANA, 4)

    assert spent(leases) == 4 - 1


def test_grant_ends_with_its_time(leases: TokenPrefetch, clock: Clock) -> None:
    leases.store(ANA, 8)
    clock.seconds += SECONDS

    assert (spent(leases), leases.next_size(ANA)) == (0, 1)


def test_nobody_asks_for_more_than_is_worth_it(leases: TokenPrefetch) -> None:
    leases.store(ANA, MOST)
    spent(leases)

    assert leases.next_size(ANA) == MOST


def test_what_one_is_granted_is_nobody_elses(leases: TokenPrefetch) -> None:
    leases.store("bob", 8)

    assert spent(leases) == 0


def test_longest_known_are_forgotten_first(leases: TokenPrefetch) -> None:
    leases.store(ANA, 8)
    for number in range(MOST_PREFETCHES):
        leases.store(number, 1)

    assert spent(leases) == 0
