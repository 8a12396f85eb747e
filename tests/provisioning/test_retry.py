"""Which database errors are transient, and how often and how long work is retried."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import OperationalError as WrappedOperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from provisioning.errors import StaleDecisionError
from provisioning.retry import is_connection_lost, is_outage, retry_transient, transient_reason

DEADLOCK = "40P01"
UNIQUE_VIOLATION = "23505"


class OperationalError(Exception):
    """A replacement for psycopg2's class, whose `pgcode` only the driver can set."""

    pgcode: str | None = None


class InterfaceError(Exception):
    """A replacement for psycopg2's error about misuse, which has no `pgcode` either."""


def failed(sqlstate: str | None, statement: str | None = "SELECT 1") -> DBAPIError:
    """Return the error of a statement, or of a COMMIT (None), with this SQLSTATE."""
    original = OperationalError()
    original.pgcode = sqlstate
    return WrappedOperationalError(statement, None, original)


NEVER_CONNECTED = WrappedOperationalError(None, None, OperationalError())
CONNECTION_DROPPED = DBAPIError("SELECT 1", None, InterfaceError(), connection_invalidated=True)
MISUSED = DBAPIError(None, None, InterfaceError())


class Clock:
    """Time that passes only by pausing; the jitter is always the longest pause."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.bounds: list[tuple[float, float]] = []

    def now(self) -> datetime:
        return datetime(2026, 3, 10, tzinfo=UTC) + timedelta(seconds=sum(self.pauses))

    def uniform(self, low: float, high: float) -> float:
        self.bounds.append((low, high))
        return high


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("backoff._sync.time", SimpleNamespace(sleep=clock.pauses.append))
    monkeypatch.setattr("backoff._sync.datetime", SimpleNamespace(datetime=clock))
    monkeypatch.setattr("backoff._jitter.random", SimpleNamespace(uniform=clock.uniform))
    return clock


def failing_work(*errors: Exception) -> Callable[[], str]:
    """Return work that raises each of the errors in turn and then succeeds."""
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
        pytest.param(CONNECTION_DROPPED, "connection_lost", id="connection dropped"),
        pytest.param(PoolTimeoutError(), "pool_timeout", id="pool timeout"),
        pytest.param(StaleDecisionError(), "stale_decision", id="stale decision"),
        pytest.param(IntegrityError("", None, failed(UNIQUE_VIOLATION)), None, id="integrity"),
        pytest.param(failed("23505"), None, id="23505 unique_violation"),
        pytest.param(failed("22021"), None, id="22021 character_not_in_repertoire"),
        pytest.param(failed("42P01"), None, id="42P01 undefined_table"),
        pytest.param(failed("40002"), None, id="40002 neighbour of a transient one"),
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
        pytest.param(CONNECTION_DROPPED, True, id="connection dropped"),
        pytest.param(failed(None), False, id="statement failed"),
        pytest.param(MISUSED, False, id="driver misused"),
        pytest.param(PoolTimeoutError(), False, id="pool timeout"),
        pytest.param(ConnectionError(), False, id="no database error"),
    ],
)
def test_connection_is_lost_when_it_broke_or_never_existed(error: Exception, is_lost: bool) -> None:
    assert is_connection_lost(error) is is_lost


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        *((failed(state), True) for state in ("25006", "53100", "53300", "57P03", "58030")),
        *((failed(state), True) for state in ("08000", "08P01")),
        (NEVER_CONNECTED, True),
        (CONNECTION_DROPPED, True),
        *((failed(state), False) for state in ("40001", "40P01", "55P03", "57014", "53200")),
        *((failed(state), False) for state in ("23505", "42P01", "XX000", None)),
        *((failed(state, None), False) for state in ("40001", "57014", "53200")),
        (failed("53100", None), True),
        (PoolTimeoutError(), False),
        (StaleDecisionError(), False),
    ],
)
def test_outage_is_an_error_that_affects_every_user(error: Exception, expected: bool) -> None:
    assert is_outage(error) is expected


def test_work_that_succeeds_is_not_retried(clock: Clock) -> None:
    reasons: list[str] = []

    assert (
        retry_transient(failing_work(), seconds_left=lambda: 1.2, on_retry=reasons.append) == "done"
    )
    assert (reasons, clock.pauses) == ([], [])


def test_work_is_retried_until_it_succeeds_with_a_callback_for_each_reason() -> None:
    reasons: list[str] = []
    work = failing_work(failed(DEADLOCK), PoolTimeoutError(), StaleDecisionError())

    assert retry_transient(work, seconds_left=lambda: 1.2, on_retry=reasons.append) == "done"
    assert reasons == ["deadlock_detected", "pool_timeout", "stale_decision"]


def test_permanent_error_is_raised_at_once(clock: Clock) -> None:
    error = failed(UNIQUE_VIOLATION)

    with pytest.raises(DBAPIError) as caught:
        retry_transient(failing_work(error), seconds_left=lambda: 1.2, on_retry=pytest.fail)

    assert (caught.value, clock.pauses) == (error, [])


def test_permanent_error_after_a_transient_one_ends_the_retries() -> None:
    reasons: list[str] = []
    work = failing_work(failed(DEADLOCK), failed(UNIQUE_VIOLATION))

    with pytest.raises(DBAPIError):
        retry_transient(work, seconds_left=lambda: 1.2, on_retry=reasons.append)

    assert reasons == ["deadlock_detected"]


def test_other_error_is_not_retried(clock: Clock) -> None:
    with pytest.raises(LookupError):
        retry_transient(failing_work(LookupError()), seconds_left=lambda: 1.2, on_retry=pytest.fail)

    assert clock.pauses == []


def test_retries_end_with_the_time_budget_and_raise_the_last_error(clock: Clock) -> None:
    errors = [failed(DEADLOCK) for _ in range(99)]

    with pytest.raises(DBAPIError) as caught:
        retry_transient(failing_work(*errors), seconds_left=lambda: 1.2, on_retry=lambda _: None)

    assert sum(clock.pauses) == pytest.approx(1.2)
    assert caught.value is errors[len(clock.pauses)]


def test_work_without_time_budget_is_tried_once() -> None:
    with pytest.raises(DBAPIError):
        retry_transient(
            failing_work(failed(DEADLOCK)), seconds_left=lambda: 0, on_retry=pytest.fail
        )


def test_each_pause_is_random_below_a_growing_bound(clock: Clock) -> None:
    work = failing_work(*[failed(DEADLOCK)] * 4)

    retry_transient(work, seconds_left=lambda: 1.2, on_retry=lambda _: None)

    assert clock.bounds == [(0, 0.05), (0, 0.1), (0, 0.2), (0, 0.4)]
