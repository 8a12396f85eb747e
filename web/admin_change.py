"""Changes by admins: preview and confirmation, transactions with retries, cache invalidation.

A page with a preview calls `preview_change`, shows it with its digest in a hidden field, and calls
`confirm_change` with the same ChangeRequest when that form comes back.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

import structlog
from flask import g, request
from sqlalchemy.orm import Session

from core import deadlines
from core.database import STATEMENT_TIMEOUT_SECONDS, transaction
from provisioning.audit import Source
from provisioning.errors import Conflict, ConflictError, StaleDecisionError, UnknownMentoradoError
from provisioning.preview import ChangeRequest, ChangeResult, Preview, confirm, preview
from provisioning.retry import retry_transient
from web.formatting import plain_text
from web.services import services
from web.validation import WithReason, validate_model

log = structlog.get_logger(__name__)

DIGEST_FIELD = "marca"  # the hidden field with the digest of a preview
SPARE_SECONDS = 0.3  # left for rendering the response
MAX_TRY_SECONDS = 0.6  # leaves time for a second try
MIN_TRY_SECONDS = 0.2

Result = TypeVar("Result")


def run_with_retry(work: Callable[[Session], Result]) -> Result:
    """Run the work in a transaction of its own and return its result.

    Retries a deadlock, a lock timeout, a lost connection and a stale decision until the request has
    no time left, and then raises the last error. Raises ConflictError where the rows keep changing.
    """

    server = services().provisioning.unit_of_work.server

    def attempt() -> Result:
        with transaction(max(MIN_TRY_SECONDS, min(MAX_TRY_SECONDS, _seconds_left()))) as session:
            return work(session)

    try:
        return retry_transient(
            attempt,
            # An outage that has lasted longer is reported at once.
            seconds_left=lambda: max(0.0, _seconds_left() - server.outage_seconds),
            on_retry=lambda reason: log.warning("admin_action_retried", reason=reason),
        )
    except StaleDecisionError as err:
        raise ConflictError(Conflict.PROFILE_CHANGED) from err


def _seconds_left() -> float:
    left = deadlines.seconds_left()
    return STATEMENT_TIMEOUT_SECONDS if left is None else max(0.0, left - SPARE_SECONDS)


def admin_source(reason: str | None = None) -> Source:
    """Return the signed-in admin and their reason as the source of a change."""
    return Source(
        "admin",
        g.request_id,
        actor_id=g.context.user["id"],
        reason=reason,
        impersonator=g.get("impersonator"),
    )


def typed_reason() -> str | None:
    """Return the reason of the submitted form; raises InvalidInputError for an invalid one."""
    return validate_model(WithReason, {"reason": request.form.get("reason", "")}).reason


class HasAffectedUsers(Protocol):
    """The result of a change, with the Clerk ids of the users whose next request must see it."""

    @property
    def clerk_ids(self) -> Iterable[str]:
        """The affected users."""


Applied = TypeVar("Applied", bound=HasAffectedUsers)


def preview_change(change: ChangeRequest) -> Preview:
    """Return what the change would do; nothing is written. Raises what the change raises."""
    source = admin_source()
    return run_with_retry(lambda session: preview(session, change, source=source))


def confirm_change(action: str, change: ChangeRequest) -> None:
    """Make the change that the submitted form confirms, with its reason; a second time, nothing.

    `action` is its name in the audit log. Raises ConflictError where the form's digest is not that
    of a preview made now, what the change raises, and InvalidInputError for an invalid reason.
    """
    digest, source = request.form.get(DIGEST_FIELD, ""), admin_source(typed_reason())
    run_admin_transaction(
        action, lambda session: confirm(session, change, digest=digest, source=source)
    )


def has_typed(field: str, expected: str) -> bool:
    """Whether the field of the submitted form has this text; case, accents and blanks aside."""
    return plain_text(request.form.get(field, "")).split() == plain_text(expected).split()


def apply_admin_change(
    action: str,
    change: Callable[..., list[str]],
    *ids: int,
    reason: str | None = None,
    **values: Any,
) -> None:
    """Make the change; it applies to the next request of every affected user, in every process.

    `action` is its name in the audit log. Raises what the change raises, and ConflictError as
    `run_with_retry` does.
    """
    values["source"] = admin_source(reason)
    run_admin_transaction(action, lambda session: ChangeResult(change(session, *ids, **values)))


def run_admin_transaction(action: str, work: Callable[[Session], Applied]) -> Applied:
    """As `apply_admin_change`, for any work; return its result.

    The affected users of every try count: a commit may have succeeded although its answer was lost.
    The next try then finds nothing to do, or its profile deleted.
    """
    results: list[Applied] = []

    def attempt(session: Session) -> None:
        try:
            results.append(work(session))
        except UnknownMentoradoError:
            if not results:
                raise  # otherwise the previous try has deleted it

    try:
        run_with_retry(attempt)
    finally:
        clerk_ids = {clerk_id for result in results for clerk_id in result.clerk_ids}
        services().provisioning.contexts.publish(clerk_ids)
    finish_admin_change(action)
    return results[-1]


def finish_admin_change(action: str) -> None:
    """Count the backlog anew, so that the overview shows the effect at once, and log the action."""
    services().backlog.invalidate()
    log_admin_action(action)


def log_admin_action(action: str) -> None:
    """Log the action of an admin by its name in the audit log, which has the details."""
    log.info("admin_action", action=action, entry="admin", actor_id=g.context.user["id"])
