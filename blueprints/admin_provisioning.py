"""What keeps people from their profiles: dead letters, and the switch that stops creation."""

from typing import Any

import structlog
from flask import Blueprint, g, jsonify
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from blueprints.acting import admins_entry, note
from blueprints.admin_users import provide_again
from blueprints.bodies import Body, read_body
from blueprints.lists import ID, asked_page
from blueprints.stance import admin_required
from extensions import transaction
from house import house
from models import ProvisioningAttempt
from provisioning import attempts, audit, switch
from session_context import iso_utc

admin_provisioning = Blueprint("admin_provisioning", __name__, url_prefix="/api/admin")
log = structlog.get_logger(__name__)


class SwitchRequest(Body):
    """Whether profiles shall be made automatically."""

    enabled: bool


@admin_provisioning.get("/dead-letters")
@admin_required
def list_dead_letters() -> ResponseReturnValue:
    """People for whom the background has given up."""
    page = asked_page()
    with transaction() as session:
        found = attempts.dead_letters(session, after_id=page.after_id, limit=page.limit)
    return jsonify(page.answer(found, _dead_letter_shape))


@admin_provisioning.post(f"/dead-letters/<{ID}:attempt_id>/retry")
@admin_required
def retry(attempt_id: int) -> ResponseReturnValue:
    """Try once more, now; where it works, the next sweep finds the profile and drops the letter."""
    with transaction() as session:
        clerk_id = attempts.dead_letter(session, attempt_id).clerk_id
    return {"id": attempt_id, **provide_again(clerk_id)}


@admin_provisioning.post(f"/dead-letters/<{ID}:attempt_id>/discard")
@admin_required
def discard(attempt_id: int) -> ResponseReturnValue:
    """Drop the letter; whoever is still due a profile counts as never tried."""
    with transaction() as session:
        letter = attempts.dead_letter(session, attempt_id)
        session.delete(letter)
        details = {"action": "discard", "clerk_id": letter.clerk_id, "error": letter.error_class}
        audit.record(session, admins_entry(), "admin_action", details=details)
    note("discard")
    return {"id": attempt_id, "status": "discarded", "request_id": g.request_id}


@admin_provisioning.get("/settings/auto-create")
@admin_required
def show_switch() -> ResponseReturnValue:
    """Whether profiles are made automatically just now."""
    with transaction() as session:
        return _switch_shape(session)


@admin_provisioning.put("/settings/auto-create")
@admin_required
def turn_switch() -> ResponseReturnValue:
    """Turn it, in every process at once; turned on, the next request and sweep heal."""
    wanted = read_body(SwitchRequest)
    with transaction() as session:
        switch.turn(session, on=wanted.enabled, entry=admins_entry(), now=house().now())
        shape = _switch_shape(session)
    log.warning("auto_create_changed", enabled=wanted.enabled, entry="admin")
    return shape


def _switch_shape(session: Session) -> dict[str, Any]:
    """`enabled` is what holds; ENABLE_AUTO_CREATE=false overrules what is `stored`."""
    stored = switch.is_on(session)
    return {"enabled": stored and house().config.enable_auto_create, "stored": stored}


def _dead_letter_shape(found: tuple[ProvisioningAttempt, int | None]) -> dict[str, Any]:
    attempt, user_id = found
    times = ("first_failed_at", "last_failed_at", "next_attempt_at")
    return {
        "id": attempt.id,
        "clerk_id": attempt.clerk_id,
        "user_id": user_id,
        "state": attempt.state,
        "attempts": attempt.attempts,
        "error_class": attempt.error_class,
        "error_code": attempt.error_code,
        "request_id": attempt.request_id,
        **{name: iso_utc(getattr(attempt, name)) for name in times},
    }
