"""An admin's change: one transaction, retried while its error is transient, then cache and log."""

import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import structlog
from flask import g
from sqlalchemy.orm import Session

from extensions import transaction
from house import house
from provisioning.audit import Entry
from provisioning.errors import StaleDecisionError
from provisioning.repairs import Conflict, ConflictError
from provisioning.retry import patiently

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.2  # the last try begins within it, so that the answer comes within two seconds

Result = TypeVar("Result")


def admins_entry(reason: str | None = None) -> Entry:
    """The admin at the gate, as the record names them, and why they act."""
    return Entry("admin", g.request_id, actor_id=g.context.user["id"], reason=reason)


def apply(
    change: Callable[..., list[str]], *ids: int, reason: str | None = None, **values: Any
) -> None:
    """Make the change; it holds at the next request of every user it concerns, in every process.

    Raises what the change raises, and ConflictError as `commit` does.
    """
    entry = admins_entry(reason)
    concerned = commit(lambda session: change(session, *ids, entry=entry, **values))
    make_known(change.__name__, concerned)


def commit(work: Callable[[Session], Result]) -> Result:
    """Run one unit of work in a transaction, again while its error is transient.

    Two admins who change the same rows, or an admin and a login, are such a case: the later one
    looks anew. Raises ConflictError where the rows keep changing until the time is up.
    """
    until = time.monotonic() + RETRY_SECONDS

    def attempt() -> Result:
        with transaction() as session:
            return work(session)

    try:
        return patiently(
            attempt,
            seconds_left=lambda: max(0.0, until - time.monotonic()),
            on_retry=lambda reason: log.info("admin_action_retried", reason=reason),
        )
    except StaleDecisionError as err:
        raise ConflictError(Conflict.CHANGED_HANDS) from err


def make_known(action: str, clerk_ids: Iterable[str]) -> None:
    """After the commit: end the cached contexts of these users, and log the action."""
    house().guarantee.contexts.publish(clerk_ids)
    house().gauges.renew()  # whoever repairs wants to see it on the desk
    note(action)


def note(action: str) -> None:
    """Tell the log what an admin has done; the record in the database has the details."""
    log.info("admin_action", action=action, entry="admin", actor_id=g.context.user["id"])
