"""A unit of work of a request, done again while its error can pass and the request has time."""

from collections.abc import Callable
from typing import TypeVar

import structlog
from sqlalchemy.orm import Session

import deadlines
from extensions import STATEMENT_TIMEOUT_SECONDS, transaction
from house import house
from provisioning.errors import StaleDecisionError
from provisioning.repairs import Conflict, ConflictError
from provisioning.retry import patiently

log = structlog.get_logger(__name__)

SPARE_SECONDS = 0.3  # of the request, for its answer
LONGEST_TRY_SECONDS = 0.6  # so that there is time for another
SHORTEST_TRY_SECONDS = 0.2

Result = TypeVar("Result")


def run_with_retry(work: Callable[[Session], Result]) -> Result:
    """Run the work in a transaction of its own and return its result.

    A deadlock, a wait for a lock that takes too long, a lost connection, and a decision about rows
    that have changed are tried again; the last error is raised when the request has no time left.
    Raises ConflictError where the rows keep changing.
    """

    def attempt() -> Result:
        with transaction(
            max(SHORTEST_TRY_SECONDS, min(LONGEST_TRY_SECONDS, _time_left()))
        ) as session:
            return work(session)

    try:
        return patiently(attempt, seconds_left=_seconds_to_retry, on_retry=_log_retry)
    except StaleDecisionError as err:
        raise ConflictError(Conflict.CHANGED_HANDS) from err


def _time_left() -> float:
    left = deadlines.seconds_left()
    return STATEMENT_TIMEOUT_SECONDS if left is None else max(0.0, left - SPARE_SECONDS)


def _seconds_to_retry() -> float:
    """How long to retry; an outage that has lasted longer is answered at once."""
    return max(0.0, _time_left() - house().guarantee.perseverance.server.outage_seconds)


def _log_retry(reason: str) -> None:
    log.warning("admin_action_retried", reason=reason)
