"""An admin's change: one transaction, retried while its error is transient, then cache and log."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import structlog
from flask import g
from sqlalchemy.orm import Session

from core import deadlines
from core.database import STATEMENT_TIMEOUT_SECONDS, transaction
from provisioning.admin_actions import Conflict, ConflictError, UnknownMentoradoError
from provisioning.audit import Source
from provisioning.errors import StaleDecisionError
from provisioning.retry import retry_transient
from web.services import services

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
        return retry_transient(attempt, seconds_left=_seconds_to_retry, on_retry=_log_retry)
    except StaleDecisionError as err:
        raise ConflictError(Conflict.CHANGED_HANDS) from err


def _time_left() -> float:
    left = deadlines.seconds_left()
    return STATEMENT_TIMEOUT_SECONDS if left is None else max(0.0, left - SPARE_SECONDS)


def _seconds_to_retry() -> float:
    """How long to retry; an outage that has lasted longer is answered at once."""
    return max(0.0, _time_left() - services().provisioning.unit_of_work.server.outage_seconds)


def _log_retry(reason: str) -> None:
    log.warning("admin_action_retried", reason=reason)


def admin_source(reason: str | None = None) -> Source:
    """The admin at the gate, as the record names them, and why they act."""
    return Source("admin", g.request_id, actor_id=g.context.user["id"], reason=reason)


def apply_admin_change(
    change: Callable[..., list[str]], *ids: int, reason: str | None = None, **values: Any
) -> None:
    """Make the change; it holds at the next request of every user it concerns, in every process.

    Raises what the change raises, and ConflictError as `run_with_retry` does.
    """
    source = admin_source(reason)
    apply_admin_work(
        change.__name__, lambda session: change(session, *ids, source=source, **values)
    )


def apply_admin_work(action: str, work: Callable[[Session], Iterable[str]]) -> None:
    """As `apply`, of work that returns the Clerk ids of the users that it concerns.

    The ids of every try count: a commit may have arrived although its answer was lost, and the next
    try has nothing left to do, or nothing to do it to.
    """
    concerned: set[str] = set()
    is_worked = False

    def attempt(session: Session) -> None:
        nonlocal is_worked
        try:
            concerned.update(work(session))
        except UnknownMentoradoError:
            if not is_worked:
                raise  # else the try before has deleted it
        is_worked = True

    try:
        run_with_retry(attempt)
    finally:
        services().provisioning.contexts.publish(concerned)
    _finish(action)


def publish_change(action: str, clerk_ids: Iterable[str]) -> None:
    """After the commit: end the cached contexts of these users, and log the action."""
    services().provisioning.contexts.publish(clerk_ids)
    _finish(action)


def _finish(action: str) -> None:
    services().backlog.renew()  # the admin wants to see the effect on the overview
    flash_result(action)


def flash_result(action: str) -> None:
    """Tell the log what an admin has done; the record in the database has the details."""
    log.info("admin_action", action=action, entry="admin", actor_id=g.context.user["id"])
