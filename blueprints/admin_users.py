"""People in the hands of admins: blocked, let in again, provisioned once more."""

from typing import Any

from flask import Blueprint, g
from flask.typing import ResponseReturnValue

from blueprints.acting import admins_entry, apply
from blueprints.lists import ID
from blueprints.stance import admin_required
from extensions import transaction
from house import house
from models import User
from provisioning import attempts, repairs
from provisioning.identity import Identity
from session_context import context_of, outcome_shape

admin_users = Blueprint("admin_users", __name__, url_prefix="/api/admin/users")


@admin_users.post(f"/<{ID}:user_id>/block")
@admin_required
def block(user_id: int) -> ResponseReturnValue:
    """Refuse this person from their next request on."""
    apply(repairs.block, user_id, now=house().now())
    return {"id": user_id, "blocked": True, "request_id": g.request_id}


@admin_users.post(f"/<{ID}:user_id>/allow")
@admin_required
def allow(user_id: int) -> ResponseReturnValue:
    """Let this person in again."""
    apply(repairs.allow, user_id)
    return {"id": user_id, "blocked": False, "request_id": g.request_id}


@admin_users.post(f"/<{ID}:user_id>/retry")
@admin_required
def retry(user_id: int) -> ResponseReturnValue:
    """Ensure this person's profile now."""
    with transaction() as session:
        user = session.get(User, user_id)
    if user is None:
        raise repairs.UnknownPersonError(f"there is no user {user_id}")
    return provide_again(user.clerk_id)


def provide_again(clerk_id: str) -> dict[str, Any]:
    """Ensure somebody at an admin's request; a record of theirs is left to the next sweep.

    Raises ProvisioningError, with the record as it was, when it fails once more.
    """
    now = house().now()
    ensured = house().guarantee.ensure(Identity(clerk_id), entry=admins_entry(), now=now)
    with transaction() as session:
        attempts.revive(session, clerk_id, now)
    return {**outcome_shape(context_of(ensured)), "request_id": g.request_id}
