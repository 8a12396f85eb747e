"""Token prefetch: a busy user gets more tokens at once, for seconds, and never uncounted ones."""

import pytest

from core.rate_limit import BATCH_SECONDS, MAX_BATCH, MAX_BATCHES, TokenPrefetch
from tests.support.concurrency import Clock

ANA = "ana"


@pytest.fixture
def prefetch(clock: Clock) -> TokenPrefetch:
    return TokenPrefetch(clock)


def consume_all(prefetch: TokenPrefetch) -> int:
    """Consume all tokens that are left and return their number."""
    return sum(prefetch.use(ANA) == 0 for _ in range(2 * MAX_BATCH))


def test_new_user_has_no_tokens(prefetch: TokenPrefetch) -> None:
    assert (consume_all(prefetch), prefetch.use(ANA)) == (0, 1)


def test_all_stored_tokens_can_be_consumed(prefetch: TokenPrefetch) -> None:
    prefetch.store(ANA, 8)

    assert consume_all(prefetch) == 8 - 1


def test_batch_size_doubles_after_a_batch_was_used_up(prefetch: TokenPrefetch) -> None:
    prefetch.store(ANA, 4)
    consume_all(prefetch)

    assert prefetch.use(ANA) == 8


def test_no_batch_is_needed_while_tokens_are_left(prefetch: TokenPrefetch) -> None:
    prefetch.store(ANA, 4)

    assert [prefetch.use(ANA) for _ in range(4)] == [0, 0, 0, 8]


def test_batches_of_two_concurrent_requests_add_up(prefetch: TokenPrefetch) -> None:
    prefetch.store(ANA, 8)
    prefetch.store(ANA, 8)

    assert consume_all(prefetch) == 2 * (8 - 1)


def test_expired_batch_adds_no_tokens(prefetch: TokenPrefetch, clock: Clock) -> None:
    prefetch.store(ANA, 8)
    clock.seconds += BATCH_SECONDS
    prefetch.store(ANA, 4)

    assert consume_all(prefetch) == 4 - 1


def test_batch_expires(prefetch: TokenPrefetch, clock: Clock) -> None:
    prefetch.store(ANA, 8)
    clock.seconds += BATCH_SECONDS

    assert (consume_all(prefetch), prefetch.use(ANA)) == (0, 1)


def test_batch_size_has_a_maximum(prefetch: TokenPrefetch) -> None:
    prefetch.store(ANA, MAX_BATCH)
    consume_all(prefetch)

    assert prefetch.use(ANA) == MAX_BATCH


def test_users_do_not_share_tokens(prefetch: TokenPrefetch) -> None:
    prefetch.store("bob", 8)

    assert consume_all(prefetch) == 0


def test_oldest_entries_are_evicted_first(prefetch: TokenPrefetch) -> None:
    prefetch.store(ANA, 8)
    for number in range(MAX_BATCHES):
        prefetch.store(number, 1)

    assert consume_all(prefetch) == 0
