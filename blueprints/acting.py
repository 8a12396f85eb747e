"""How an admin's change is made: one transaction, then the cache, then the log."""

from collections.abc import Callable
from typing import Any

import structlog
from flask import g

from extensions import transaction
from house import house
from provisioning.audit import Entry

log = structlog.get_logger(__name__)


def admins_entry() -> Entry:
    """The admin at the gate, as the record names them."""
    return Entry("admin", g.request_id, actor_id=g.context.user["id"])


def apply(change: Callable[..., list[str]], *ids: int, **values: Any) -> None:
    """Make the change; it holds at the next request of everybody it concerns, in every process."""
    with transaction() as session:
        concerned = change(session, *ids, entry=admins_entry(), **values)
    for clerk_id in concerned:
        house().guarantee.contexts.renew(clerk_id)
    log.info("admin_action", action=change.__name__, entry="admin")
