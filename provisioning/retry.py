"""Transactions with retry for transient errors, and the record of those that failed.

`transient_reason`, `is_outage` and `is_unavailable` classify errors by SQLSTATE. `retry_transient`
repeats work with exponential backoff. `RetryingUnitOfWork` does so within the time of a request and
records the failure of the last try.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TypeVar

import backoff
import structlog
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from core import metrics
from core.connection_pool import ROUND_TRIPS
from core.database import transaction
from core.deadlines import scaled
from core.server_status import ServerStatus
from models import ProvisioningAttempt
from models.background import AttemptState
from provisioning.attempts import Failure, RetryPolicy, record_failure
from provisioning.audit import Source
from provisioning.errors import (
    DatabaseConnectingError,
    DatabaseUnavailableError,
    NeedsAttentionError,
    ProvisioningError,
    ProvisioningUnavailableError,
    StaleDecisionError,
)

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

REQUEST_BUDGET_SECONDS = 1.2  # the answer comes within two seconds, whatever is slow
SHORTEST_TRY_SECONDS = 0.2
LONGEST_TRY_SECONDS = 0.45  # half of the budget with its grace, so that a second try fits in

# PostgreSQL, appendix A: the server can do no work at all.
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
# An error that is in neither table is permanent: a retry would only repeat it.
TRANSIENT_SQLSTATES = {
    **OUTAGE_SQLSTATES,
    "40001": "serialization_failure",  # on a standby also a conflict with recovery
    "40P01": "deadlock_detected",
    "53200": "out_of_memory",  # a smaller batch may succeed
    "55P03": "lock_not_available",
    "57014": "statement_timeout",  # set by `transaction`: it ends a try early enough for another
}
CONNECTION_CLASS = "08"
TRANSIENT_TYPES = (DBAPIError, PoolTimeoutError, StaleDecisionError)  # some of them, by SQLSTATE
FIRST_PAUSE_SECONDS = 0.05  # doubled after each failure


def transient_reason(error: BaseException) -> str | None:
    """Return why this error is transient; None for a permanent one."""
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
    """Whether no user can be served by the database at the moment."""
    return is_connection_lost(error) or _sqlstate(error) in OUTAGE_SQLSTATES


def _sqlstate(error: BaseException) -> str:
    return getattr(getattr(error, "orig", None), "pgcode", None) or ""


def is_unavailable(error: BaseException) -> bool:
    """Whether the state of the database, not the statement, is the reason for this error."""
    return is_connection_lost(error) or transient_reason(error) is not None


def retry_transient(
    work: Callable[[], Result],
    *,
    seconds_left: Callable[[], float],
    on_retry: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """Run the whole unit of work again while its error is transient and there is time.

    `seconds_left` is called once, after the first failure: no retry follows a try that started
    later. `on_retry` gets the reason of each failure. Pauses are exponential; full jitter spreads
    calls that failed together (AWS Architecture Blog, «Exponential Backoff And Jitter»). Raises the
    last error. `clock` is monotonic, in seconds.
    """
    failures, ends_at = 0, 0.0
    while True:
        tried_at = clock()
        try:
            return work()
        except TRANSIENT_TYPES as err:
            reason = transient_reason(err)
            if failures == 0:
                tried_at = clock()
                ends_at = tried_at + seconds_left()
            if reason is None or tried_at >= ends_at:
                raise
            on_retry(reason)
            pause = backoff.full_jitter(FIRST_PAUSE_SECONDS * 2**failures)
            sleep(min(pause, ends_at - tried_at))
            failures += 1


@dataclass(frozen=True, slots=True)
class RetryingUnitOfWork:
    """Runs units of work, each for one user, with retry; shared by an app's threads.

    `budget_seconds` is the time of a request for its tries and pauses.
    """

    policy: RetryPolicy = field(default_factory=RetryPolicy)
    server: ServerStatus = field(default_factory=ServerStatus, repr=False)
    budget_seconds: float = REQUEST_BUDGET_SECONDS

    def run(
        self,
        work: Callable[[Session], Result],
        clerk_id: str,
        *,
        source: Source,
        now: datetime,
        started: float,
    ) -> Result:
        """Run the work in a transaction of its own, again while its error is transient.

        `started` is when the wait began, on the monotonic clock. Raises DatabaseUnavailableError
        where no database answers or takes writes. Any other failure is recorded and raises
        ProvisioningUnavailableError, or NeedsAttentionError once the record is a dead letter.
        """

        def work_once() -> Result:
            left = scaled(self.budget_seconds) - (time.monotonic() - started)
            timeout_seconds = max(SHORTEST_TRY_SECONDS, min(LONGEST_TRY_SECONDS, left))
            with transaction(timeout_seconds) as session:
                return work(session)

        try:
            return retry_transient(
                work_once,
                seconds_left=partial(self._seconds_for_retries, started),
                on_retry=_log_retry,
            )
        except (SQLAlchemyError, StaleDecisionError) as err:
            raise self._failure(err, clerk_id, source, now, started) from err

    def _seconds_for_retries(self, started: float) -> float:
        """How long to retry, so that the last try and its round trips fit into the budget.

        Only the first seconds of an outage are waited out. In a longer one the error is returned at
        once: otherwise all threads would wait, and the answers after it would be late.
        """
        elapsed = max(time.monotonic() - started, self.server.outage_seconds)
        last_try = SHORTEST_TRY_SECONDS + ROUND_TRIPS * self.server.round_trip_seconds
        return max(0.0, scaled(self.budget_seconds) - last_try - elapsed)

    def _failure(
        self, err: Exception, clerk_id: str, source: Source, now: datetime, started: float
    ) -> ProvisioningError:
        """Record and log the failed attempt; return the domain error for the database's error."""
        failure = Failure(type(err).__name__, getattr(getattr(err, "orig", None), "pgcode", None))
        attempt = None if is_outage(err) else self.record_attempt(clerk_id, failure, source, now)
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
        if is_outage(err) and self.server.is_connecting:
            return DatabaseConnectingError("the connection is being opened")
        if is_outage(err):
            return DatabaseUnavailableError("the database does not answer or takes no writes")
        if attempt and attempt.state == AttemptState.DEAD:
            return NeedsAttentionError("all attempts in the background have failed")
        return ProvisioningUnavailableError("the profile could not be ensured in time")

    def record_attempt(
        self, clerk_id: str, failure: Failure, source: Source, now: datetime
    ) -> ProvisioningAttempt | None:
        """Record a failed attempt; returns None where the database does not take it."""
        jitter = random.random()  # nosec B311 # noqa: S311 - it spreads retries
        try:
            with transaction(SHORTEST_TRY_SECONDS) as session:
                attempt = record_failure(
                    session,
                    clerk_id,
                    failure,
                    source=source,
                    now=now,
                    policy=self.policy,
                    jitter=jitter,
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


def _log_retry(reason: str) -> None:
    metrics.ENSURE_RETRIES.labels(reason).inc()
    log.warning("mentorado_ensure_retried", reason=reason)
