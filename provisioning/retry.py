"""Which database errors can pass by themselves? A pure decision, and the patience for them."""

from collections.abc import Callable
from typing import TypeVar

import backoff
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from provisioning.errors import StaleDecisionError

Result = TypeVar("Result")

# PostgreSQL, appendix A. What is not here is permanent: trying again would only repeat it.
TRANSIENT_SQLSTATES = {
    "40001": "serialization_failure",
    "40P01": "deadlock_detected",
    "55P03": "lock_not_available",
    "57014": "statement_timeout",  # ours: it ends a try early enough for another
    "57P01": "admin_shutdown",
    "57P02": "crash_shutdown",
    "57P03": "cannot_connect_now",
}
CONNECTION_CLASS = "08"
PASSING = (DBAPIError, PoolTimeoutError, StaleDecisionError)  # those among which some can pass


def transient_reason(error: BaseException) -> str | None:
    """Name why this error can pass, or None for one that would only come again."""
    if isinstance(error, PoolTimeoutError):
        return "pool_timeout"
    if isinstance(error, StaleDecisionError):
        return "stale_decision"
    if not isinstance(error, DBAPIError):
        return None
    sqlstate = getattr(error.orig, "pgcode", None)
    if sqlstate is None:
        return "connection_lost" if is_connection_lost(error) else None
    if sqlstate.startswith(CONNECTION_CLASS):
        return "connection_lost"
    return TRANSIENT_SQLSTATES.get(sqlstate)


def is_connection_lost(error: BaseException) -> bool:
    """Whether the server could not be reached, or went away under the statement.

    libpq gives such errors no SQLSTATE; SQLAlchemy then marks the connection as invalidated, or the
    connection was never made and there is no statement.
    """
    return isinstance(error, DBAPIError) and (
        error.connection_invalidated
        or (error.statement is None and isinstance(error, OperationalError))
    )


def is_unavailable(error: BaseException) -> bool:
    """Whether the database, not the question, is the reason that there is no answer just now."""
    return is_connection_lost(error) or transient_reason(error) is not None


def patiently(
    work: Callable[[], Result],
    *,
    seconds_left: Callable[[], float],
    on_retry: Callable[[str], None],
) -> Result:
    """Run the whole unit of work again while its error can pass and there is time.

    `seconds_left` is asked after the first failure: nothing is set up for a try that succeeds.
    Full jitter spreads those who failed together (AWS Architecture Blog, «Exponential Backoff And
    Jitter»). Raises the last error.
    """
    try:
        return work()
    except PASSING as err:
        failure: Exception | None = err

    def again() -> Result:
        nonlocal failure
        if failure is not None:
            first, failure = failure, None
            raise first
        return work()

    retrying = backoff.on_exception(
        backoff.expo,
        PASSING,
        factor=0.05,
        max_time=seconds_left,
        giveup=lambda error: transient_reason(error) is None,
        on_backoff=lambda details: on_retry(transient_reason(details["exception"]) or ""),
        jitter=backoff.full_jitter,
        logger=None,
    )
    return retrying(again)()
