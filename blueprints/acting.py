"""An admin's change: one transaction, retried while its error is transient, then cache and log."""

from collections.abc import Callable, Iterable
from typing import Any

import structlog
from flask import g
from sqlalchemy.orm import Session

from blueprints.retrying import run_with_retry
from house import house
from provisioning.audit import Entry
from provisioning.repairs import UnknownMentoradoError

log = structlog.get_logger(__name__)


def admins_entry(reason: str | None = None) -> Entry:
    """The admin at the gate, as the record names them, and why they act."""
    return Entry("admin", g.request_id, actor_id=g.context.user["id"], reason=reason)


def apply(
    change: Callable[..., list[str]], *ids: int, reason: str | None = None, **values: Any
) -> None:
    """Make the change; it holds at the next request of every user it concerns, in every process.

    Raises what the change raises, and ConflictError as `run_with_retry` does.
    """
    entry = admins_entry(reason)
    apply_work(change.__name__, lambda session: change(session, *ids, entry=entry, **values))


def apply_work(action: str, work: Callable[[Session], Iterable[str]]) -> None:
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
        house().guarantee.contexts.publish(concerned)
    _finish(action)


def make_known(action: str, clerk_ids: Iterable[str]) -> None:
    """After the commit: end the cached contexts of these users, and log the action."""
    house().guarantee.contexts.publish(clerk_ids)
    _finish(action)


def _finish(action: str) -> None:
    house().gauges.renew()  # the admin wants to see the effect on the overview
    note(action)


def note(action: str) -> None:
    """Tell the log what an admin has done; the record in the database has the details."""
    log.info("admin_action", action=action, entry="admin", actor_id=g.context.user["id"])
