"""An admin's change: one transaction, retried while its error is transient, then cache and log."""

from collections.abc import Callable, Iterable
from typing import Any

import structlog
from flask import g

from blueprints.retrying import run_with_retry
from house import house
from provisioning.audit import Entry

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
    concerned = run_with_retry(lambda session: change(session, *ids, entry=entry, **values))
    make_known(change.__name__, concerned)


def make_known(action: str, clerk_ids: Iterable[str]) -> None:
    """After the commit: end the cached contexts of these users, and log the action."""
    house().guarantee.contexts.publish(clerk_ids)
    house().gauges.renew()  # whoever repairs wants to see it on the desk
    note(action)


def note(action: str) -> None:
    """Tell the log what an admin has done; the record in the database has the details."""
    log.info("admin_action", action=action, entry="admin", actor_id=g.context.user["id"])
