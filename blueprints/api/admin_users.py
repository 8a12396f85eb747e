"""Users for admins: list, block, allow, retry."""

from typing import Annotated

from flask import Blueprint, g
from pydantic import Field
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from auth.identity import Identity
from core.database import transaction
from core.types import Timestamp, one_of
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
from web.search import search_term
from web.services import services
from web.validation import ID_CONVERTER, Listed, Search, Text, WithReason, list_page

admin_users = Blueprint("admin_users", __name__, url_prefix="/api/admin/users")


class ListedUserShape(UserShape):
    """A user with their state; times are null where the event has not happened."""

    state: Annotated[str, one_of(UserState)]
    mentorado_id: int | None
    attempts: int
    created_at: Timestamp
    last_signed_in: Timestamp
    blocked_at: Timestamp | None


class Blocked(TypedDict):
    """Whether the user is blocked now."""

    id: int
    blocked: bool
    request_id: str


class Retried(OutcomeShape):
    """The result of a retry."""

    request_id: str


class UserSearch(Search):
    """Filters of the list."""

    q: Annotated[
        Text, Field(description="Words of name or address, a Clerk id, number or reference code")
    ] = None
    state: Annotated[UserState | None, one_of(UserState)] = None


@admin_users.get("")
@admin_required
@api_operation()
def list_users_page(query: UserSearch) -> Listed[ListedUserShape]:
    """Users by id: of one state, or by name, address, Clerk id or reference code."""
    with transaction() as session:
        users = search_users(session, query)
    return list_page(users, serialize_user_row, limit=query.limit)


@admin_users.post(f"/<{ID_CONVERTER}:user_id>/block")
@admin_required
@api_operation("conflict")
def block(user_id: int, body: WithReason) -> Blocked:
    """Block a user from their next request on."""
    apply_admin_change(admin_actions.block, user_id, now=services().now(), reason=body.reason)
    return {"id": user_id, "blocked": True, "request_id": g.request_id}


@admin_users.post(f"/<{ID_CONVERTER}:user_id>/allow")
@admin_required
@api_operation()
def allow(user_id: int, body: WithReason) -> Blocked:
    """Unblock a user."""
    apply_admin_change(admin_actions.allow, user_id, reason=body.reason)
    return {"id": user_id, "blocked": False, "request_id": g.request_id}


@admin_users.post(f"/<{ID_CONVERTER}:user_id>/retry")
@admin_required
@api_operation()
def retry(user_id: int) -> Retried:
    """Ensure a user's profile now."""
    with transaction() as session:
        user = session.get(User, user_id)
    if user is None:
        raise admin_actions.UnknownUserError(f"there is no user {user_id}")
    return ensure_user(user.clerk_id)


def serialize_user_row(row: ListedUser) -> ListedUserShape:
    """Return a listed user as JSON values."""
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


def search_users(session: Session, query: UserSearch) -> list[ListedUser]:
    """Return the matching users; `q` may be the reference code that a user was shown."""
    return list_users(
        session,
        state=query.state,
        search=search_term(query.q),
        after_id=query.cursor,
        limit=query.limit,
    )


def ensure_user(clerk_id: str) -> Retried:
    """Ensure a user's profile for an admin; an existing attempt is left to the next sweep.

    Raises ProvisioningError, with the attempt unchanged, if it fails again.
    """
    now = services().now()
    result = services().provisioning.ensure(Identity(clerk_id), source=admin_source(), now=now)
    with transaction() as session:
        attempts.reset_attempt(session, clerk_id, now)
    return {**serialize_outcome(context_from_result(result)), "request_id": g.request_id}
