"""People in the hands of admins: blocked, let in again, provisioned once more."""

from typing import Annotated

from flask import Blueprint, g
from pydantic import Field
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from auth.identity import Identity
from core.database import transaction
from core.types import Moment, one_of
from models import User
from provisioning import admin_actions, attempts
from provisioning.context import (
    OutcomeShape,
    UserShape,
    context_from_result,
    iso_utc,
    serialize_outcome,
    serialize_user,
)
from provisioning.queries import ListedUser, UserState, list_users
from web.access_policy import admin_required
from web.admin_change import admin_source, apply_admin_change
from web.api import api_operation
from web.services import services
from web.validation import ID, Listed, Search, Text, WithReason, listed

admin_users = Blueprint("admin_users", __name__, url_prefix="/api/admin/users")


class ListedUserShape(UserShape):
    """A person with their state; times are null where nothing of the kind has happened."""

    state: Annotated[str, one_of(UserState)]
    mentorado_id: int | None
    attempts: int
    created_at: Moment
    last_signed_in: Moment
    blocked_at: Moment | None


class Blocked(TypedDict):
    """Whether a person is refused now."""

    id: int
    blocked: bool
    request_id: str


class Retried(OutcomeShape):
    """What one more try has come to."""

    request_id: str


class UserSearch(Search):
    """Which people are meant."""

    q: Annotated[
        Text, Field(description="A part of the name or address, a Clerk id or a reference code")
    ] = None
    state: Annotated[UserState | None, one_of(UserState)] = None


@admin_users.get("")
@admin_required
@api_operation()
def list_users_page(asked: UserSearch) -> Listed[ListedUserShape]:
    """People in key order: of one state, or found by name, address, Clerk id or reference code."""
    with transaction() as session:
        found = search_users(session, asked)
    return listed(found, serialize_user_row, limit=asked.limit)


@admin_users.post(f"/<{ID}:user_id>/block")
@admin_required
@api_operation("conflict")
def block(user_id: int, why: WithReason) -> Blocked:
    """Refuse this person from their next request on."""
    apply_admin_change(admin_actions.block, user_id, now=services().now(), reason=why.reason)
    return {"id": user_id, "blocked": True, "request_id": g.request_id}


@admin_users.post(f"/<{ID}:user_id>/allow")
@admin_required
@api_operation()
def allow(user_id: int, why: WithReason) -> Blocked:
    """Let this person in again."""
    apply_admin_change(admin_actions.allow, user_id, reason=why.reason)
    return {"id": user_id, "blocked": False, "request_id": g.request_id}


@admin_users.post(f"/<{ID}:user_id>/retry")
@admin_required
@api_operation()
def retry(user_id: int) -> Retried:
    """Ensure this person's profile now."""
    with transaction() as session:
        user = session.get(User, user_id)
    if user is None:
        raise admin_actions.UnknownUserError(f"there is no user {user_id}")
    return ensure_again(user.clerk_id)


def serialize_user_row(row: ListedUser) -> ListedUserShape:
    """The person, ready to be told."""
    user = row.user
    return {
        **serialize_user(user),
        "state": row.state,
        "mentorado_id": row.mentorado.id if row.mentorado else None,
        "attempts": row.attempt.attempts if row.attempt else 0,
        "created_at": iso_utc(user.created_at),
        "last_signed_in": iso_utc(user.last_signed_in),
        "blocked_at": iso_utc(user.blocked_at) if user.blocked_at else None,
    }


def search_users(session: Session, asked: UserSearch) -> list[ListedUser]:
    """The people that are meant, among them who was shown `q`, if it is the code of a screen.

    Anybody may choose the id of their own request, so that a code never hides what else it finds.
    """
    return list_users(
        session,
        state=asked.state,
        wanted=asked.q,
        shown_to=services().provisioning.contexts.user_of_reference(asked.q) if asked.q else None,
        after_id=asked.cursor,
        limit=asked.limit,
    )


def ensure_again(clerk_id: str) -> Retried:
    """Ensure somebody at an admin's request; a record of theirs is left to the next sweep.

    Raises ProvisioningError, with the record as it was, when it fails once more.
    """
    now = services().now()
    ensured = services().provisioning.ensure(Identity(clerk_id), source=admin_source(), now=now)
    with transaction() as session:
        attempts.reset_attempt(session, clerk_id, now)
    return {**serialize_outcome(context_from_result(ensured)), "request_id": g.request_id}
