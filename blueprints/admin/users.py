"""The admin console's users: search, state and history, a retry, and their personal data."""

from typing import Annotated

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import Field
from sqlalchemy.orm import Session

from blueprints.admin.change_types import dangers_of_user
from blueprints.api.admin_users import (
    UserSearch,
    ensure_user,
    erase_user,
    export_user,
    search_users,
)
from blueprints.pages.profile import json_download
from core.database import transaction
from models import Mentorado, User
from provisioning import audit
from provisioning.audit import read_names
from provisioning.ensure import forecast_decision
from provisioning.errors import ConflictError, ProvisioningError
from provisioning.profiles import list_unlinked_profiles
from provisioning.references import count_references
from provisioning.user_lists import ListedUser, MenteeKind, find_user, list_mentees, list_users
from web.access_policy import admin_required
from web.admin_change import has_typed, typed_reason
from web.admin_labels import CONFLICTS, STATES, event_name, forecast_text
from web.errors import HttpError, InvalidInputError
from web.flashes import flash_user
from web.services import services
from web.validation import ID_CONVERTER, Digits, Search, read_query, search_term

console_users = Blueprint("console_users", __name__, url_prefix="/admin/pessoas")
console_search = Blueprint("console_search", __name__, url_prefix="/admin/busca")
console_personal_data = Blueprint(
    "console_personal_data", __name__, url_prefix=f"/admin/pessoas/<{ID_CONVERTER}:user_id>"
)

PAGE_SIZE = 50
HISTORY_SIZE = 100
MOST_RESULTS = 20  # of accounts and of profiles; the lists have the others
ERASURE_WORD = "apagar"  # which the admin types


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
        history = audit.read_history(
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


@console_search.get("")
@admin_required
def search() -> ResponseReturnValue:
    """Find accounts and pre-registered profiles; a single result is opened at once.

    A profile with an account is found as its account.
    """
    query = read_query(Search)
    term = search_term(query.q)
    if term is None:
        return render_template("console_search.html", search_text="", users=(), profiles=())
    with transaction() as session:
        users = list_users(session, search=term, limit=MOST_RESULTS + 1)
        profiles = list_mentees(
            session, kind=MenteeKind.UNLINKED, search=term, limit=MOST_RESULTS + 1
        )
    if len(users) + len(profiles) == 1:
        if users:
            return redirect(url_for("console_users.show", user_id=users[0].user.id))
        return redirect(url_for("console_mentees.show", mentorado_id=profiles[0].id))
    return render_template(
        "console_search.html",
        search_text=query.q,
        users=users,
        profiles=profiles,
        states=STATES,
        most=MOST_RESULTS,
    )


@console_personal_data.get("/dados.json")
@admin_required
def export(user_id: int) -> Response:
    """Download everything that is kept about a user."""
    return json_download(export_user(user_id), f"dados-pessoa-{user_id}.json")


@console_personal_data.get("/apagar-dados")
@admin_required
def preview_erasure(user_id: int) -> ResponseReturnValue:
    """Show what an erasure would delete, and ask for a reason and a typed word."""
    return _render_erasure(user_id)


@console_personal_data.post("/apagar-dados")
@admin_required
def erase(user_id: int) -> ResponseReturnValue:
    """Erase the user, if the word was typed and a reason is given."""
    if not has_typed("confirmacao", ERASURE_WORD):
        return _render_erasure(user_id, f"Digite «{ERASURE_WORD}» para confirmar."), 422
    try:
        erase_user(user_id, typed_reason(), dry_run=False)
    except InvalidInputError:
        return _render_erasure(user_id, "Informe o motivo."), 422
    except ConflictError as err:
        return _render_erasure(user_id, CONFLICTS[err.kind]), 409
    flash_user("Dados pessoais apagados.")
    return redirect(url_for("console_users.index"), code=303)


def _render_erasure(user_id: int, fault: str = "") -> str:
    with transaction() as session:
        user = session.get(User, user_id)
    if user is None:
        raise HttpError("not_found", f"there is no user {user_id}")
    counts: dict[str, int] = {}
    try:
        counts = erase_user(user_id, None, dry_run=True)
    except ConflictError as err:
        fault = fault or CONFLICTS[err.kind]
    return render_template(
        "console_erase_person.html",
        user=user,
        counts=counts,
        fault=fault,
        word=ERASURE_WORD,
        reason=request.form.get("reason", ""),
    )
