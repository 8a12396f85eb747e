"""The admin console's users: search, state, history, and a retry of the ensure call."""

from typing import Annotated

from flask import Blueprint, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from pydantic import Field
from sqlalchemy.orm import Session

from blueprints.admin.change_types import dangers_of_user
from blueprints.api.admin_users import UserSearch, ensure_user, search_users
from core.database import transaction
from models import Mentorado
from provisioning import audit
from provisioning.audit_log import read_names
from provisioning.ensure import forecast_decision
from provisioning.errors import ProvisioningError
from provisioning.profiles import list_unlinked_profiles
from provisioning.queries import ListedUser, find_user
from provisioning.references import count_references
from web.access_policy import admin_required
from web.admin_labels import STATES, event_name, forecast_text
from web.errors import HttpError
from web.request_context import flash_user
from web.services import services
from web.validation import ID_CONVERTER, Digits, read_query

console_users = Blueprint("console_users", __name__, url_prefix="/admin/pessoas")

PAGE_SIZE = 50
HISTORY_SIZE = 100


class UsersPage(UserSearch):
    """Filters and page of the list."""

    limit: Annotated[int, Field(ge=1, le=PAGE_SIZE), Digits] = PAGE_SIZE


@console_users.get("")
@admin_required
def index() -> ResponseReturnValue:
    """List users by id: of one state, or by name, address, Clerk id or reference code."""
    query = read_query(UsersPage)
    with transaction() as session:
        users = search_users(session, query)
    next_id = users[-1].user.id if len(users) == query.limit else None
    return render_template(
        "console_users.html",
        users=users,
        states=STATES,
        state=query.state,
        search_text=query.q or "",
        next_id=next_id,
    )


@console_users.get(f"/<{ID_CONVERTER}:user_id>")
@admin_required
def show(user_id: int) -> ResponseReturnValue:
    """Show one user: state and reason, what a login would do, and the history."""
    with transaction() as session:
        row = _get_user(session, user_id)
        result = forecast_decision(session, row.user.clerk_id, services().provisioning.rules)
        mentorado_id = row.mentorado.id if row.mentorado else None
        history = audit.events(
            session, user_id=user_id, mentorado_id=mentorado_id, limit=HISTORY_SIZE
        )
        unlinked = _matching_profiles(session, row)
        names = read_names(session, history)
        counts = count_references(session, mentorado_id) if mentorado_id else {}
    return render_template(
        "console_user.html",
        row=row,
        state=STATES[row.state],
        forecast=forecast_text(result),
        unlinked_profiles=unlinked,
        danger=dangers_of_user(row.user, row.mentorado, counts),
        history=[(event, event_name(event)) for event in history],
        names=names,
    )


@console_users.post(f"/<{ID_CONVERTER}:user_id>/tentar")
@admin_required
def retry(user_id: int) -> ResponseReturnValue:
    """Ensure the user's profile now, as their own request would."""
    with transaction() as session:
        clerk_id = _get_user(session, user_id).user.clerk_id
    try:
        outcome = ensure_user(clerk_id)
    except ProvisioningError:
        flash_user("Ainda não deu certo. O motivo está nesta página.")
    else:
        flash_user(
            "O perfil está pronto." if outcome["mentorado"] else "Nada a criar para esta pessoa."
        )
    return redirect(url_for(".show", user_id=user_id), code=303)


def _get_user(session: Session, user_id: int) -> ListedUser:
    row = find_user(session, user_id)
    if row is None:
        raise HttpError("not_found", f"there is no user {user_id}")
    return row


def _matching_profiles(session: Session, row: ListedUser) -> list[Mentorado]:
    """Return the pre-registered profiles with the user's address, verified or not."""
    return list_unlinked_profiles(session, row.user.email) if row.user.email else []
