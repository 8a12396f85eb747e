"""PostgreSQL stops in its tracks: connections stay open, and nothing is answered on them."""

from functools import partial

import pytest

from dev.clients import concurrently, is_retryable, is_served, new_users, request_as
from dev.databases import count
from dev.servers import Postgres, Served

EARLY, LATE = new_users(40)[:20], new_users(40)[20:]


@pytest.fixture
def url(postgres: Postgres) -> str:
    """A database on a server that may stop in its tracks."""
    return postgres.url


def test_hanging_database_is_waited_for_within_bounds_and_costs_nobody_their_profile(
    app: Served, postgres: Postgres
) -> None:
    early = concurrently(partial(request_as, app), EARLY)
    with postgres.frozen():
        refusals = concurrently(
            partial(request_as, app), LATE
        )  # would never return without our own clock
    late = concurrently(partial(request_as, app), LATE)

    assert [refusal.text for refusal in refusals if not is_retryable(refusal)] == []
    assert sum(map(is_served, early + late)) == len(EARLY + LATE)
    assert count(postgres.url, "SELECT count(user_id) FROM mentorados") == len(EARLY + LATE)
