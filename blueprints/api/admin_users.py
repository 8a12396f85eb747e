"""Users for admins: list, block, allow, retry."""

from typing import Annotated, Any

from flask import Blueprint, g
from pydantic import ConfigDict, Field
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from auth.identity import Identity
from core.database import transaction
from core.types import Timestamp, one_of
from models import User
from provisioning import admin_actions, attempts
from provisioning.context import OutcomeShape, UserShape, context_from_result, serialize_outcome
from provisioning.erasure import erase_person, preview_erasure
from provisioning.personal_data import PersonExport, export_person, find_person
from provisioning.user_lists import ListedUser, UserState, list_users
from web.access_policy import admin_required
from web.admin_change import (
    admin_source,
    apply_admin_change,
    finish_admin_change,
    log_admin_action,
    run_with_retry,
)
from web.api import Listed, api_operation, list_page, serialize_row
from web.errors import InvalidInputError
from web.services import services
from web.validation import ID_CONVERTER, Body, Reason, Search, Text, WithReason, search_term

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


def _describe_reason(schema: dict[str, Any]) -> None:
    """Describe that only a dry run may omit the reason."""
    is_dry_run = {"required": ["dry_run"], "properties": {"dry_run": {"const": True}}}
    schema["anyOf"] = [{"required": ["reason"]}, is_dry_run]
    schema["properties"]["reason"].pop("default")


class ErasureRequest(Body):
    """Why a person is erased; a dry run only counts and needs no reason."""

    model_config = ConfigDict(json_schema_extra=_describe_reason)

    dry_run: bool = False
    reason: Reason = ""


class Erased(TypedDict):
    """The deleted or changed rows by table; of a dry run, those that would be."""

    id: int
    dry_run: bool
    erased: bool
    counts: dict[str, int]
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
    apply_admin_change(
        "block", admin_actions.block, user_id, now=services().now(), reason=body.reason
    )
    return {"id": user_id, "blocked": True, "request_id": g.request_id}


@admin_users.post(f"/<{ID_CONVERTER}:user_id>/allow")
@admin_required
@api_operation()
def allow(user_id: int, body: WithReason) -> Blocked:
    """Unblock a user."""
    apply_admin_change("allow", admin_actions.allow, user_id, reason=body.reason)
    return {"id": user_id, "blocked": False, "request_id": g.request_id}


@admin_users.post(f"/<{ID_CONVERTER}:user_id>/retry")
@admin_required
@api_operation()
def retry(user_id: int) -> Retried:
    """Ensure a user's profile now."""
    with transaction() as session:
        clerk_id = session.get_one(User, user_id).clerk_id
    return ensure_user(clerk_id)


@admin_users.get(f"/<{ID_CONVERTER}:user_id>/export")
@admin_required
@api_operation()
def export(user_id: int) -> PersonExport:
    """Everything that is kept about a user, in every table that refers to them."""
    return export_user(user_id)


@admin_users.post(f"/<{ID_CONVERTER}:user_id>/erase")
@admin_required
@api_operation("conflict")
def erase(user_id: int, body: ErasureRequest) -> Erased:
    """Erase a user with everything that refers to them; a dry run only counts."""
    counts = erase_user(user_id, body.reason, dry_run=body.dry_run)
    return {
        "id": user_id,
        "dry_run": body.dry_run,
        "erased": not body.dry_run,
        "counts": counts,
        "request_id": g.request_id,
    }


def export_user(user_id: int) -> PersonExport:
    """Return everything that is kept about a user; raises UnknownUserError."""
    with transaction() as session:
        document = export_person(session, find_person(session, user_id), now=services().now())
    log_admin_action("export")
    return document


def erase_user(user_id: int, reason: str | None, *, dry_run: bool) -> dict[str, int]:
    """Erase a user and everything that is cached about them; return the rows by table.

    Raises InvalidInputError without a reason, ConflictError and UnknownUserError.
    """
    if not (dry_run or reason):
        raise InvalidInputError([{"field": "reason", "message": "Informe o motivo."}])
    source = admin_source(reason)
    erase_function = preview_erasure if dry_run else erase_person
    erasure = run_with_retry(
        lambda s: erase_function(s, find_person(s, user_id, lock=True), source=source)
    )
    if not dry_run:
        if erasure.clerk_id is not None:
            services().provisioning.contexts.erase(erasure.clerk_id)
        finish_admin_change("erase")
    return dict(erasure.counts)


def serialize_user_row(row: ListedUser) -> ListedUserShape:
    """Return a listed user as JSON values."""
    return serialize_row(
        ListedUserShape,
        row.user,
        state=row.state,
        mentorado_id=row.mentorado.id if row.mentorado else None,
        attempts=row.attempt.attempts if row.attempt else 0,
    )


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
    """Ensure a user's profile for an admin; after a success the next sweep deletes the attempt.

    Raises ProvisioningError if it fails again: the attempt then has the new error, and the same
    number of tries.
    """
    now = services().now()
    result = services().provisioning.ensure(Identity(clerk_id), source=admin_source(), now=now)
    with transaction() as session:
        attempts.reset_attempt(session, clerk_id, now)
    return {**serialize_outcome(context_from_result(result)), "request_id": g.request_id}
