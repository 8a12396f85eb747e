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
    context_of,
    iso_utc,
    outcome_shape,
    user_shape,
)
from provisioning.queries import PersonRow, PersonState, people
from web.access_policy import admin_required
from web.admin_change import admins_entry, apply
from web.api import described
from web.services import house
from web.validation import ID, Because, Listed, Search, Text, listed

admin_users = Blueprint("admin_users", __name__, url_prefix="/api/admin/users")


class PersonShape(UserShape):
    """A person with their state; times are null where nothing of the kind has happened."""

    state: Annotated[str, one_of(PersonState)]
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


class PeopleSearch(Search):
    """Which people are meant."""

    q: Annotated[
        Text, Field(description="A part of the name or address, a Clerk id or a reference code")
    ] = None
    state: Annotated[PersonState | None, one_of(PersonState)] = None


@admin_users.get("")
@admin_required
@described()
def list_people(asked: PeopleSearch) -> Listed[PersonShape]:
    """People in key order: of one state, or found by name, address, Clerk id or reference code."""
    with transaction() as session:
        found = asked_people(session, asked)
    return listed(found, person_shape, limit=asked.limit)


@admin_users.post(f"/<{ID}:user_id>/block")
@admin_required
@described("conflict")
def block(user_id: int, why: Because) -> Blocked:
    """Refuse this person from their next request on."""
    apply(admin_actions.block, user_id, now=house().now(), reason=why.reason)
    return {"id": user_id, "blocked": True, "request_id": g.request_id}


@admin_users.post(f"/<{ID}:user_id>/allow")
@admin_required
@described()
def allow(user_id: int, why: Because) -> Blocked:
    """Let this person in again."""
    apply(admin_actions.allow, user_id, reason=why.reason)
    return {"id": user_id, "blocked": False, "request_id": g.request_id}


@admin_users.post(f"/<{ID}:user_id>/retry")
@admin_required
@described()
def retry(user_id: int) -> Retried:
    """Ensure this person's profile now."""
    with transaction() as session:
        user = session.get(User, user_id)
    if user is None:
        raise admin_actions.UnknownPersonError(f"there is no user {user_id}")
    return provide_again(user.clerk_id)


def person_shape(row: PersonRow) -> PersonShape:
    """The person, ready to be told."""
    user = row.user
    return {
        **user_shape(user),
        "state": row.state,
        "mentorado_id": row.mentorado.id if row.mentorado else None,
        "attempts": row.attempt.attempts if row.attempt else 0,
        "created_at": iso_utc(user.created_at),
        "last_signed_in": iso_utc(user.last_signed_in),
        "blocked_at": iso_utc(user.blocked_at) if user.blocked_at else None,
    }


def asked_people(session: Session, asked: PeopleSearch) -> list[PersonRow]:
    """The people that are meant, among them who was shown `q`, if it is the code of a screen.

    Anybody may choose the id of their own request, so that a code never hides what else it finds.
    """
    return people(
        session,
        state=asked.state,
        wanted=asked.q,
        shown_to=house().guarantee.contexts.user_of_reference(asked.q) if asked.q else None,
        after_id=asked.cursor,
        limit=asked.limit,
    )


def provide_again(clerk_id: str) -> Retried:
    """Ensure somebody at an admin's request; a record of theirs is left to the next sweep.

    Raises ProvisioningError, with the record as it was, when it fails once more.
    """
    now = house().now()
    ensured = house().guarantee.ensure(Identity(clerk_id), entry=admins_entry(), now=now)
    with transaction() as session:
        attempts.revive(session, clerk_id, now)
    return {**outcome_shape(context_of(ensured)), "request_id": g.request_id}
