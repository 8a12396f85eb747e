"""How an admin's change is made: one transaction, then the cache, then the log."""

from collections.abc import Callable, Iterable
from typing import Any

import structlog
from flask import g

from extensions import transaction
from house import house
from provisioning.audit import Entry

log = structlog.get_logger(__name__)


def admins_entry(reason: str | None = None) -> Entry:
    """The admin at the gate, as the record names them, and why they act."""
    return Entry("admin", g.request_id, actor_id=g.context.user["id"], reason=reason)


def apply(
    change: Callable[..., list[str]], *ids: int, reason: str | None = None, **values: Any
) -> None:
    """Make the change; it holds at the next request of everybody it concerns, in every process."""
    with transaction() as session:
        concerned = change(session, *ids, entry=admins_entry(reason), **values)
    make_known(change.__name__, concerned)


def make_known(action: str, clerk_ids: Iterable[str]) -> None:
    """After the commit: the next request of these people sees the change, and the log tells it."""
    for clerk_id in clerk_ids:
        house().guarantee.contexts.renew(clerk_id)
    house().gauges.renew()  # whoever repairs wants to see it on the desk
    note(action)


def note(action: str) -> None:
    """Tell the log what an admin has done; the record in the database has the details."""
    log.info("admin_action", action=action, entry="admin", actor_id=g.context.user["id"])
