"""Which database errors can pass by themselves? A pure decision, and the patience for them."""

from collections.abc import Callable
from typing import TypeVar

import backoff
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from provisioning.errors import StaleDecisionError

Result = TypeVar("Result")

# PostgreSQL, appendix A. With these the server cannot do its work, whatever it is asked.
OUTAGE_SQLSTATES = {
    "25006": "read_only",  # a standby, default_transaction_read_only
    "53000": "insufficient_resources",
    "53100": "disk_full",
    "53300": "too_many_connections",
    "57P01": "admin_shutdown",
    "57P02": "crash_shutdown",
    "57P03": "cannot_connect_now",
    "58000": "system_error",
    "58030": "io_error",
}
# What is in neither is permanent: trying again would only repeat it.
TRANSIENT_SQLSTATES = {
    **OUTAGE_SQLSTATES,
    "40001": "serialization_failure",  # on a standby also a conflict with recovery
    "40P01": "deadlock_detected",
    "53200": "out_of_memory",  # a smaller batch may do with what there is
    "55P03": "lock_not_available",
    "57014": "statement_timeout",  # ours: it ends a try early enough for another
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
    reason = TRANSIENT_SQLSTATES.get(_sqlstate(error))
    return reason or ("connection_lost" if is_connection_lost(error) else None)


def is_connection_lost(error: BaseException) -> bool:
    """Whether the server could not be reached, or went away under the statement.

    libpq mostly gives such errors no SQLSTATE; SQLAlchemy then marks the connection as invalidated,
    or the connection was never made and there is no statement. An error of COMMIT has no statement
    either, but a SQLSTATE.
    """
    sqlstate = _sqlstate(error)
    is_without_answer = not sqlstate and isinstance(error, OperationalError)
    return isinstance(error, DBAPIError) and (
        error.connection_invalidated
        or sqlstate.startswith(CONNECTION_CLASS)
        or (error.statement is None and is_without_answer)
    )


def is_outage(error: BaseException) -> bool:
    """Whether there is no database to work with just now, for this user or any other."""
    return is_connection_lost(error) or _sqlstate(error) in OUTAGE_SQLSTATES


def _sqlstate(error: BaseException) -> str:
    return getattr(getattr(error, "orig", None), "pgcode", None) or ""


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
