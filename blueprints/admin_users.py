"""People in the hands of admins: blocked, let in again, provisioned once more."""

from typing import Any

from flask import Blueprint, g, jsonify, request
from flask.typing import ResponseReturnValue

from blueprints.acting import admins_entry, apply
from blueprints.bodies import Because, read_body
from blueprints.errors import InvalidInputError
from blueprints.lists import ID, asked_page, asked_text
from blueprints.stance import admin_required
from extensions import transaction
from house import house
from models import User
from provisioning import attempts, repairs
from provisioning.identity import Identity
from provisioning.states import PersonRow, PersonState, people
from session_context import context_of, iso_utc, outcome_shape, user_shape

admin_users = Blueprint("admin_users", __name__, url_prefix="/api/admin/users")


@admin_users.get("")
@admin_required
def list_people() -> ResponseReturnValue:
    """People in key order: of one state, or found by name, address, Clerk id or reference code."""
    page, state = asked_page(), asked_state()
    with transaction() as session:
        found = people(
            session,
            state=state,
            **asked_person(),
            after_id=page.after_id,
            limit=page.limit,
        )
    return jsonify(page.answer(found, person_shape))


@admin_users.post(f"/<{ID}:user_id>/block")
@admin_required
def block(user_id: int) -> ResponseReturnValue:
    """Refuse this person from their next request on."""
    apply(repairs.block, user_id, now=house().now(), reason=read_body(Because).reason)
    return {"id": user_id, "blocked": True, "request_id": g.request_id}


@admin_users.post(f"/<{ID}:user_id>/allow")
@admin_required
def allow(user_id: int) -> ResponseReturnValue:
    """Let this person in again."""
    apply(repairs.allow, user_id, reason=read_body(Because).reason)
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


def person_shape(row: PersonRow) -> dict[str, Any]:
    """A person with their state; times are null where nothing of the kind has happened."""
    user = row.user
    times = {name: getattr(user, name) for name in ("created_at", "last_signed_in", "blocked_at")}
    return {
        **user_shape(user),
        "state": row.state,
        "mentorado_id": row.mentorado.id if row.mentorado else None,
        "attempts": row.attempt.attempts if row.attempt else 0,
        **{name: iso_utc(moment) if moment else None for name, moment in times.items()},
    }


def asked_person() -> dict[str, str | None]:
    """Read `q`, and find out who was shown it, if it is the code of a screen.

    Anybody may choose the id of their own request, so that a code never hides what else it finds.
    """
    wanted = asked_text("q")
    shown_to = house().guarantee.contexts.whose_screen(wanted) if wanted else None
    return {"wanted": wanted, "shown_to": shown_to}


def asked_state() -> PersonState | None:
    """Read `state`; raises InvalidInputError for one that there is not."""
    given = request.args.get("state")
    if not given:
        return None
    try:
        return PersonState(given)
    except ValueError as err:
        known = ", ".join(PersonState)
        message = f"Escolha um destes: {known}."
        raise InvalidInputError([{"field": "state", "message": message}]) from err


def provide_again(clerk_id: str) -> dict[str, Any]:
    """Ensure somebody at an admin's request; a record of theirs is left to the next sweep.

    Raises ProvisioningError, with the record as it was, when it fails once more.
    """
    now = house().now()
    ensured = house().guarantee.ensure(Identity(clerk_id), entry=admins_entry(), now=now)
    with transaction() as session:
        attempts.revive(session, clerk_id, now)
    return {**outcome_shape(context_of(ensured)), "request_id": g.request_id}
