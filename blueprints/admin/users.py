"""The support desk's people: found, understood, and provisioned once more."""

from typing import Annotated

from flask import Blueprint, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from pydantic import Field
from sqlalchemy.orm import Session

from blueprints.api.admin_users import UserSearch, ensure_again, search_users
from core.database import transaction
from models import Mentorado
from provisioning import audit
from provisioning.ensure import forecast_decision
from provisioning.errors import ProvisioningError
from provisioning.profiles import waiting_profiles
from provisioning.queries import ListedUser, find_user
from web.access_policy import admin_required
from web.admin_labels import STATES, event_name, forecast
from web.errors import NotFoundError
from web.request_context import flash_user
from web.services import services
from web.validation import ID, Digits, read_query

console_users = Blueprint("console_users", __name__, url_prefix="/admin/pessoas")

PAGE_SIZE = 50
HISTORY_SIZE = 100


class UsersPage(UserSearch):
    """Which people are meant, fewer at a time."""

    limit: Annotated[int, Field(ge=1, le=PAGE_SIZE), Digits] = PAGE_SIZE


@console_users.get("")
@admin_required
def index() -> ResponseReturnValue:
    """People in key order: of one state, or found by name, address, Clerk id or reference code."""
    asked = read_query(UsersPage)
    with transaction() as session:
        found = search_users(session, asked)
    next_id = found[-1].user.id if len(found) == asked.limit else None
    return render_template(
        "console_users.html",
        people=found,
        states=STATES,
        state=asked.state,
        wanted=asked.q or "",
        next_id=next_id,
    )


@console_users.get(f"/<{ID}:user_id>")
@admin_required
def show(user_id: int) -> ResponseReturnValue:
    """One person: where they stand and why, what would happen now, and what has happened."""
    with transaction() as session:
        row = _row(session, user_id)
        foreseen = forecast_decision(session, row.user.clerk_id, services().provisioning.rules)
        own = row.mentorado.id if row.mentorado else None
        history = audit.events(session, user_id=user_id, mentorado_id=own, limit=HISTORY_SIZE)
        waiting = _waiting(session, row)
    return render_template(
        "console_user.html",
        row=row,
        state=STATES[row.state],
        forecast=forecast(foreseen),
        waiting=waiting,
        history=[(event, event_name(event)) for event in history],
    )


@console_users.post(f"/<{ID}:user_id>/tentar")
@admin_required
def retry(user_id: int) -> ResponseReturnValue:
    """Ensure the person's profile now, as their own request would."""
    with transaction() as session:
        clerk_id = _row(session, user_id).user.clerk_id
    try:
        outcome = ensure_again(clerk_id)
    except ProvisioningError:
        flash_user("Ainda não deu certo. O motivo está nesta página.")
    else:
        flash_user(
            "O perfil está pronto." if outcome["mentorado"] else "Nada a criar para esta pessoa."
        )
    return redirect(url_for(".show", user_id=user_id), code=303)


def _row(session: Session, user_id: int) -> ListedUser:
    row = find_user(session, user_id)
    if row is None:
        raise NotFoundError(f"there is no user {user_id}")
    return row


def _waiting(session: Session, row: ListedUser) -> list[Mentorado]:
    """Profiles without owner that have the address the person has proven."""
    user = row.user
    return waiting_profiles(session, user.email) if user.email and user.email_verified else []
