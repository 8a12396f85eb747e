"""PostgreSQL hangs: connections stay open and get no answer."""

from functools import partial

import pytest

from benchmarks.databases import count
from benchmarks.servers import AppServer, PostgresServer, is_retryable, is_served, request_as
from tests.support.clients import concurrently, new_users

pytestmark = pytest.mark.real_time_limits

EARLY, LATE = new_users(40)[:20], new_users(40)[20:]


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    """The URL of a database on a server that may hang."""
    return postgres.url


def test_requests_to_a_hanging_database_time_out_and_every_user_gets_a_profile(
    app: AppServer, postgres: PostgresServer
) -> None:
    early = concurrently(partial(request_as, app), EARLY)
    with postgres.suspended():
        # These would never return without the app's own deadline.
        refusals = concurrently(partial(request_as, app), LATE)
    late = concurrently(partial(request_as, app), LATE)

    assert [refusal.text for refusal in refusals if not is_retryable(refusal)] == []
    assert sum(map(is_served, early + late)) == len(EARLY + LATE)
    assert count(postgres.url, "SELECT count(user_id) FROM mentorados") == len(EARLY + LATE)
