"""How long a person's profile is tried for, and what is left behind when it is given up."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import backoff
import structlog
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from core import metrics
from core.connection_pool import ROUND_TRIPS
from core.database import transaction
from core.server_status import ServerStatus
from models import ProvisioningAttempt
from models.provisioning_attempt import AttemptState
from provisioning.attempts import Failure, RetryPolicy, record_failure
from provisioning.audit import Source
from provisioning.errors import (
    DatabaseUnavailableError,
    NeedsAttentionError,
    ProvisioningError,
    ProvisioningUnavailableError,
    StaleDecisionError,
)

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


def retry_transient(
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


log = structlog.get_logger(__name__)

REQUEST_BUDGET_SECONDS = 1.2  # the answer comes within two seconds, whatever is slow
SHORTEST_TRY_SECONDS = 0.2
LONGEST_TRY_SECONDS = 0.45  # with its grace half of the budget, so that there is time for another


@dataclass(frozen=True, slots=True)
class RetryingUnitOfWork:
    """Tries units of work for one person after the other; shared by an app's threads."""

    policy: RetryPolicy = field(default_factory=RetryPolicy)
    server: ServerStatus = field(default_factory=ServerStatus, repr=False)

    def run(
        self,
        work: Callable[[Session], Result],
        clerk_id: str,
        *,
        source: Source,
        now: datetime,
        started: float,
    ) -> Result:
        """Do the work in a transaction of its own, again while its error can pass.

        `started` is when waiting began, on the monotonic clock. Raises DatabaseUnavailableError
        when there was no database to ask; when the work was given up otherwise, a record stays and
        ProvisioningUnavailableError or, once the background has given up too, NeedsAttentionError
        is raised.
        """

        def attempt() -> Result:
            timeout = max(SHORTEST_TRY_SECONDS, min(LONGEST_TRY_SECONDS, _time_left(started)))
            with transaction(timeout) as session:
                return work(session)

        try:
            return retry_transient(
                attempt,
                seconds_left=lambda: self._statement_seconds(started),
                on_retry=_log_retry,
            )
        except (SQLAlchemyError, StaleDecisionError) as err:
            raise self._give_up(err, clerk_id, source, now, started) from err

    def _statement_seconds(self, started: float) -> float:
        """How long to try again: the last try still fits into the budget, on the way included.

        The first seconds of an outage are worth waiting for. In a longer one the answer comes at
        once, or all threads would be waiting and the next answer would come too late.
        """
        gone = max(time.monotonic() - started, self.server.outage_seconds)
        last_try = SHORTEST_TRY_SECONDS + ROUND_TRIPS * self.server.round_trip_seconds
        return max(0.0, REQUEST_BUDGET_SECONDS - last_try - gone)

    def _give_up(
        self, err: Exception, clerk_id: str, source: Source, now: datetime, started: float
    ) -> ProvisioningError:
        """Leave a durable trace, and say in the domain's words what the database's error means."""
        failure = Failure(type(err).__name__, getattr(getattr(err, "orig", None), "pgcode", None))
        attempt = None if is_outage(err) else self.record(clerk_id, failure, source, now)
        log.error(
            "mentorado_creation_failed",
            clerk_id=clerk_id,
            error=failure.error_class,
            sqlstate=failure.error_code,
            attempt=attempt.attempts if attempt else None,
            retryable=is_unavailable(err),
            entry=source.channel,
            duration_ms=round((time.monotonic() - started) * 1000, 1),
        )
        if is_outage(err):
            return DatabaseUnavailableError("the database did not answer, or takes no writes")
        if attempt and attempt.state == AttemptState.DEAD:
            return NeedsAttentionError("the background has given up")
        return ProvisioningUnavailableError("not just now")

    def record(
        self, clerk_id: str, failure: Failure, source: Source, now: datetime
    ) -> ProvisioningAttempt | None:
        """Record a failed attempt; returns None where the database does not take it."""
        dice = random.random()  # nosec B311 # noqa: S311 - it spreads retries
        try:
            with transaction(SHORTEST_TRY_SECONDS) as session:
                attempt = record_failure(
                    session,
                    clerk_id,
                    failure,
                    source=source,
                    now=now,
                    policy=self.policy,
                    dice=dice,
                )
        except SQLAlchemyError as err:
            log.warning("attempt_not_recorded", error=type(err).__name__)
            return None
        if attempt.attempts == self.policy.max_attempts and source.is_background:
            log.error(
                "provisioning_dead_letter",
                clerk_id=clerk_id,
                attempt_id=attempt.id,
                attempts=attempt.attempts,
            )
        return attempt


def _time_left(started: float) -> float:
    return REQUEST_BUDGET_SECONDS - (time.monotonic() - started)


def _log_retry(reason: str) -> None:
    metrics.ENSURE_RETRIES.labels(reason).inc()
    log.warning("mentorado_ensure_retried", reason=reason)
