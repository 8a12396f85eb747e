"""Which database errors are transient, and for how long their work is retried."""

from collections.abc import Callable
from functools import partial

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import OperationalError as WrappedOperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from provisioning.errors import StaleDecisionError
from provisioning.retry import is_connection_lost, is_outage, retry_transient, transient_reason

Retry = Callable[..., str]

DEADLOCK = "40P01"
UNIQUE_VIOLATION = "23505"


class OperationalError(Exception):
    """Stands for psycopg2's, whose `pgcode` only the driver itself can set."""

    pgcode: str | None = None


class InterfaceError(Exception):
    """Stands for psycopg2's error about its own misuse, which has no `pgcode` either."""


def failed(sqlstate: str | None, statement: str | None = "SELECT 1") -> DBAPIError:
    """A statement, or a COMMIT (None), that the server answered with this SQLSTATE."""
    original = OperationalError()
    original.pgcode = sqlstate
    return WrappedOperationalError(statement, None, original)


NEVER_CONNECTED = WrappedOperationalError(None, None, OperationalError())
WENT_AWAY = DBAPIError("SELECT 1", None, InterfaceError(), connection_invalidated=True)
MISUSED = DBAPIError(None, None, InterfaceError())


class Clock:
    """A clock that only pauses advance."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return sum(self.pauses)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def retry(clock: Clock) -> Retry:
    """`retry_transient` with 1.2 seconds left, on the clock of the test."""
    return partial(
        retry_transient, seconds_left=lambda: 1.2, clock=clock, sleep=clock.pauses.append
    )


def work_that(*errors: Exception) -> Callable[[], str]:
    """Fails with each of the errors in turn, then succeeds."""
    left = iter(errors)

    def work() -> str:
        for error in left:
            raise error
        return "done"

    return work


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(failed("40001"), "serialization_failure", id="40001"),
        pytest.param(failed("40P01"), "deadlock_detected", id="40P01"),
        pytest.param(failed("55P03"), "lock_not_available", id="55P03"),
        pytest.param(failed("57014"), "statement_timeout", id="57014"),
        pytest.param(failed("57P01"), "admin_shutdown", id="57P01"),
        pytest.param(failed("57P02"), "crash_shutdown", id="57P02"),
        pytest.param(failed("57P03"), "cannot_connect_now", id="57P03"),
        pytest.param(failed("08000"), "connection_lost", id="08000"),
        pytest.param(failed("08006"), "connection_lost", id="08006"),
        pytest.param(failed("08P01"), "connection_lost", id="08P01"),
        pytest.param(failed("25006"), "read_only", id="25006"),
        pytest.param(failed("53100"), "disk_full", id="53100"),
        pytest.param(failed("53200"), "out_of_memory", id="53200"),
        pytest.param(failed("53300"), "too_many_connections", id="53300"),
        pytest.param(failed("58030"), "io_error", id="58030"),
        pytest.param(NEVER_CONNECTED, "connection_lost", id="never connected"),
        pytest.param(WENT_AWAY, "connection_lost", id="went away"),
        pytest.param(PoolTimeoutError(), "pool_timeout", id="pool timeout"),
        pytest.param(StaleDecisionError(), "stale_decision", id="stale decision"),
        pytest.param(IntegrityError("", None, failed(UNIQUE_VIOLATION)), None, id="integrity"),
        pytest.param(failed("23505"), None, id="23505 unique_violation"),
        pytest.param(failed("22021"), None, id="22021 character_not_in_repertoire"),
        pytest.param(failed("42P01"), None, id="42P01 undefined_table"),
        pytest.param(failed("40002"), None, id="40002 next to a transient one"),
        pytest.param(failed("25P02"), None, id="25P02 in_failed_sql_transaction"),
        pytest.param(failed("53400"), None, id="53400 configuration_limit_exceeded"),
        pytest.param(failed("XX000"), None, id="XX000 internal_error"),
        pytest.param(failed(None), None, id="statement failed without SQLSTATE"),
        pytest.param(MISUSED, None, id="driver misused"),
        pytest.param(ConnectionError(), None, id="no database error"),
    ],
)
def test_only_transient_errors_have_a_reason(error: Exception, reason: str | None) -> None:
    assert transient_reason(error) == reason


@pytest.mark.parametrize(
    ("error", "is_lost"),
    [
        pytest.param(NEVER_CONNECTED, True, id="never connected"),
        pytest.param(WENT_AWAY, True, id="went away"),
        pytest.param(failed(None), False, id="statement failed"),
        pytest.param(MISUSED, False, id="driver misused"),
        pytest.param(PoolTimeoutError(), False, id="pool timeout"),
        pytest.param(ConnectionError(), False, id="no database error"),
    ],
)
def test_connection_is_lost_when_it_broke_or_never_was(error: Exception, is_lost: bool) -> None:
    assert is_connection_lost(error) is is_lost


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        *((failed(state), True) for state in ("25006", "53100", "53300", "57P03", "58030")),
        *((failed(state), True) for state in ("08000", "08P01")),
        (NEVER_CONNECTED, True),
        (WENT_AWAY, True),
        *((failed(state), False) for state in ("40001", "40P01", "55P03", "57014", "53200")),
        *((failed(state), False) for state in ("23505", "42P01", "XX000", None)),
        *((failed(state, None), False) for state in ("40001", "57014", "53200")),
        (failed("53100", None), True),
        (PoolTimeoutError(), False),
        (StaleDecisionError(), False),
    ],
)
def test_outage_concerns_every_user(error: Exception, expected: bool) -> None:
    assert is_outage(error) is expected


def test_work_that_succeeds_is_done_once_without_a_pause(retry: Retry, clock: Clock) -> None:
    reasons: list[str] = []

    assert retry(work_that(), on_retry=reasons.append) == "done"
    assert (reasons, clock.pauses) == ([], [])


def test_work_is_done_again_until_it_succeeds_and_each_reason_is_reported(retry: Retry) -> None:
    reasons: list[str] = []
    work = work_that(failed(DEADLOCK), PoolTimeoutError(), StaleDecisionError())

    assert retry(work, on_retry=reasons.append) == "done"
    assert reasons == ["deadlock_detected", "pool_timeout", "stale_decision"]


def test_permanent_error_is_raised_at_once(retry: Retry, clock: Clock) -> None:
    error = failed(UNIQUE_VIOLATION)

    with pytest.raises(DBAPIError) as caught:
        retry(work_that(error), on_retry=pytest.fail)

    assert (caught.value, clock.pauses) == (error, [])


def test_permanent_error_after_a_transient_one_ends_the_retries(retry: Retry) -> None:
    reasons: list[str] = []
    work = work_that(failed(DEADLOCK), failed(UNIQUE_VIOLATION))

    with pytest.raises(DBAPIError):
        retry(work, on_retry=reasons.append)

    assert reasons == ["deadlock_detected"]


def test_foreign_error_is_not_caught(retry: Retry, clock: Clock) -> None:
    with pytest.raises(LookupError):
        retry(work_that(LookupError()), on_retry=pytest.fail)

    assert clock.pauses == []


def test_retries_end_with_the_time_left_and_raise_the_last_error(
    retry: Retry, clock: Clock
) -> None:
    errors = [failed(DEADLOCK) for _ in range(999)]

    with pytest.raises(DBAPIError) as caught:
        retry(work_that(*errors), on_retry=lambda _: None)

    assert sum(clock.pauses) == pytest.approx(1.2)
    assert caught.value is errors[len(clock.pauses)]


def test_work_is_tried_once_without_time_left(retry: Retry) -> None:
    with pytest.raises(DBAPIError):
        retry(work_that(failed(DEADLOCK)), seconds_left=lambda: 0, on_retry=pytest.fail)


def test_each_pause_is_random_below_a_growing_bound(retry: Retry, clock: Clock) -> None:
    first_pauses = set[float]()
    for _ in range(50):
        clock.pauses.clear()

        retry(work_that(*[failed(DEADLOCK)] * 4), on_retry=lambda _: None)

        bounds = zip(clock.pauses, (0.05, 0.1, 0.2, 0.4), strict=True)
        assert all(0 <= pause <= bound for pause, bound in bounds)
        first_pauses.add(clock.pauses[0])

    assert len(first_pauses) > 40
