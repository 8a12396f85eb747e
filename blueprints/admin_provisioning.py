"""What keeps people from their profiles: dead letters, and the switch that stops creation."""

from typing import Annotated, Literal

import structlog
from flask import Blueprint, g
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from blueprints.acting import admins_entry, note
from blueprints.admin_users import Retried, provide_again
from blueprints.bodies import Body
from blueprints.described import described
from blueprints.lists import ID, Listed, listed
from blueprints.queries import Paging
from blueprints.retrying import run_with_retry
from blueprints.stance import admin_required
from extensions import transaction
from house import house
from models import ProvisioningAttempt
from models.provisioning_attempt import AttemptState
from provisioning import attempts, audit, switch
from session_context import iso_utc
from shapes import Moment, one_of

admin_provisioning = Blueprint("admin_provisioning", __name__, url_prefix="/api/admin")
log = structlog.get_logger(__name__)


class SwitchRequest(Body):
    """Whether profiles shall be made automatically."""

    enabled: bool


class DeadLetter(TypedDict):
    """The record of somebody for whom the background has given up."""

    id: int
    clerk_id: str
    user_id: int | None
    state: Annotated[str, one_of(AttemptState)]
    attempts: int
    error_class: str
    error_code: str | None
    request_id: str | None
    first_failed_at: Moment
    last_failed_at: Moment
    next_attempt_at: Moment


class RetriedLetter(Retried):
    """What one more try has come to, and for which letter."""

    id: int


class Discarded(TypedDict):
    """A letter that is gone."""

    id: int
    status: Literal["discarded"]
    request_id: str


class Switch(TypedDict):
    """`enabled` is what holds; ENABLE_AUTO_CREATE=false overrules what is `stored`."""

    enabled: bool
    stored: bool


@admin_provisioning.get("/dead-letters")
@admin_required
@described()
def list_dead_letters(asked: Paging) -> Listed[DeadLetter]:
    """People for whom the background has given up."""
    with transaction() as session:
        found = attempts.dead_letters(session, after_id=asked.cursor, limit=asked.limit)
    return listed(found, _dead_letter_shape, limit=asked.limit)


@admin_provisioning.post(f"/dead-letters/<{ID}:attempt_id>/retry")
@admin_required
@described()
def retry(attempt_id: int) -> RetriedLetter:
    """Try once more, now; where it works, the next sweep finds the profile and drops the letter."""
    with transaction() as session:
        clerk_id = attempts.dead_letter(session, attempt_id).clerk_id
    return {"id": attempt_id, **provide_again(clerk_id)}


@admin_provisioning.post(f"/dead-letters/<{ID}:attempt_id>/discard")
@admin_required
@described()
def discard(attempt_id: int) -> Discarded:
    """Drop the letter; whoever is still due a profile counts as never tried."""
    entry = admins_entry()

    def work(session: Session) -> None:
        letter = attempts.dead_letter(session, attempt_id)
        session.delete(letter)
        details = {"action": "discard", "clerk_id": letter.clerk_id, "error": letter.error_class}
        audit.record(session, entry, "admin_action", details=details)

    run_with_retry(work)
    note("discard")
    return {"id": attempt_id, "status": "discarded", "request_id": g.request_id}


@admin_provisioning.get("/settings/auto-create")
@admin_required
@described()
def show_switch() -> Switch:
    """Whether profiles are made automatically just now."""
    with transaction() as session:
        return _switch_shape(session)


@admin_provisioning.put("/settings/auto-create")
@admin_required
@described()
def turn_switch(wanted: SwitchRequest) -> Switch:
    """Turn it, in every process at once; turned on, the next request and sweep heal."""
    with transaction() as session:
        switch.turn(session, on=wanted.enabled, entry=admins_entry(), now=house().now())
        shape = _switch_shape(session)
    log.warning("auto_create_changed", enabled=wanted.enabled, entry="admin")
    return shape


def _switch_shape(session: Session) -> Switch:
    stored = switch.is_on(session)
    return {"enabled": stored and house().config.enable_auto_create, "stored": stored}


def _dead_letter_shape(found: tuple[ProvisioningAttempt, int | None]) -> DeadLetter:
    attempt, user_id = found
    return {
        "id": attempt.id,
        "clerk_id": attempt.clerk_id,
        "user_id": user_id,
        "state": attempt.state,
        "attempts": attempt.attempts,
        "error_class": attempt.error_class,
        "error_code": attempt.error_code,
        "request_id": attempt.request_id,
        "first_failed_at": iso_utc(attempt.first_failed_at),
        "last_failed_at": iso_utc(attempt.last_failed_at),
        "next_attempt_at": iso_utc(attempt.next_attempt_at),
    }
