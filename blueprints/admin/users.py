"""The admin console's accounts: search, state, retry, personal data, and «É a mesma pessoa»."""

from collections.abc import Callable
from typing import Annotated, Literal

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError
from sqlalchemy.orm import Session

from blueprints.admin.change_types import destructive_changes_of_user
from blueprints.api import admin_users
from blueprints.pages.profile import json_download
from core.database import transaction
from provisioning import audit, same_person
from provisioning.audit import Source
from provisioning.ensure import preview_decision
from provisioning.errors import ConflictError, ProvisioningError
from provisioning.merge import Prefer
from provisioning.preview import ChangeRequest, ChangeResult, Preview, Subject, SubjectKind
from provisioning.profiles import list_unlinked_profiles
from provisioning.references import count_references
from provisioning.same_person import AccountOrProfile
from provisioning.user_lists import ListedUser, MenteeKind, find_user, list_mentees, list_users
from web.access_policy import admin_required
from web.admin_change import confirm_change, has_typed, preview_change, typed_reason
from web.admin_labels import CONFLICTS, decision_text
from web.errors import HttpError, InvalidInputError
from web.request_context import flash_user
from web.services import services
from web.validation import (
    ID_CONVERTER,
    MAX_ID,
    Query,
    Search,
    Text,
    read_query,
    search_term,
    validate_model,
)

console_users = Blueprint("console_users", __name__, url_prefix="/admin/pessoas")
console_search = Blueprint("console_search", __name__, url_prefix="/admin/busca")
console_personal_data = Blueprint(
    "console_personal_data", __name__, url_prefix=f"/admin/pessoas/<{ID_CONVERTER}:user_id>"
)

PAGE_SIZE = 50
HISTORY_SIZE = 100
MOST_RESULTS = 20  # of accounts and of profiles; the lists have the others
ERASURE_WORD = "apagar"  # which the admin types


@console_users.get("")
@admin_required
def index() -> ResponseReturnValue:
    """List users by id: of one state, or by name, address, Clerk id or reference code."""
    query = read_query(admin_users.UserSearch).model_copy(update={"limit": PAGE_SIZE})
    with transaction() as session:
        users = admin_users.search_users(session, query)
    next_id = users[-1].user.id if len(users) == query.limit else None
    return render_template(
        "console_users.html", users=users, query=query, search_text=query.q or "", next_id=next_id
    )


@console_users.get(f"/<{ID_CONVERTER}:user_id>")
@admin_required
def show(user_id: int) -> ResponseReturnValue:
    """Show one user: state and reason, what a login would do, and the history."""
    with transaction() as session:
        row = _get_user(session, user_id)
        result = preview_decision(session, row.user.clerk_id, services().provisioning.rules)
        mentorado_id = row.mentorado.id if row.mentorado else None
        history = audit.read_history(
            session, user_id=user_id, mentorado_id=mentorado_id, limit=HISTORY_SIZE
        )
        address = row.user.email  # verified or not
        unlinked = list_unlinked_profiles(session, address) if address else []
        names = audit.read_names(session, history)
        counts = count_references(session, mentorado_id) if mentorado_id else {}
    return render_template(
        "console_user.html",
        row=row,
        decision=decision_text(result),
        unlinked_profiles=unlinked,
        dangers=destructive_changes_of_user(row.user, row.mentorado, counts),
        history=history,
        names=names,
    )


@console_users.post(f"/<{ID_CONVERTER}:user_id>/tentar")
@admin_required
def retry(user_id: int) -> ResponseReturnValue:
    """Ensure the user's profile now, as their own request would."""
    with transaction() as session:
        clerk_id = _get_user(session, user_id).user.clerk_id
    try:
        has_profile = admin_users.ensure_user(clerk_id)["mentorado"]
        flash_user("O perfil está pronto." if has_profile else "Nada a criar para esta pessoa.")
    except ProvisioningError:
        flash_user("Ainda não deu certo. O motivo está nesta página.")
    return redirect(url_for(".show", user_id=user_id), code=303)


def _get_user(session: Session, user_id: int) -> ListedUser:
    row = find_user(session, user_id)
    if row is None:
        raise HttpError("not_found", f"there is no user {user_id}")
    return row


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
        most=MOST_RESULTS,
    )


@console_personal_data.get("/dados.json")
@admin_required
def export(user_id: int) -> Response:
    """Download everything that is kept about a user."""
    return json_download(admin_users.export_user(user_id), f"dados-pessoa-{user_id}.json")


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
        admin_users.erase_user(user_id, typed_reason(), dry_run=False)
    except InvalidInputError:
        return _render_erasure(user_id, "Informe o motivo."), 422
    except ConflictError as err:
        return _render_erasure(user_id, CONFLICTS[err.kind]), 409
    flash_user("Dados pessoais apagados.")
    return redirect(url_for("console_users.index"), code=303)


def _render_erasure(user_id: int, fault: str = "") -> str:
    with transaction() as session:
        user = _get_user(session, user_id).user
    counts: dict[str, int] = {}
    try:
        counts = admin_users.erase_user(user_id, None, dry_run=True)
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


console_same_person = Blueprint("console_same_person", __name__, url_prefix="/admin/mesma-pessoa")

LOADERS: dict[str, Callable[[Session, int], AccountOrProfile]] = {
    "conta": same_person.load_account,
    "perfil": same_person.load_profile,
}


def _check_reference(text: str | None) -> str | None:
    """Check the reference to an account or a profile, such as `conta-17`."""
    kind, _, number = (text or "").partition("-")
    is_number = number.isascii() and number.isdecimal() and len(number) <= len(str(MAX_ID))
    if text is not None and not (kind in LOADERS and is_number and int(number) <= MAX_ID):
        raise PydanticCustomError("literal_error", "no account or profile")
    return text


Reference = Annotated[Text, AfterValidator(_check_reference)]


class Choice(Query):
    """The one that stays, the other, whose months count, and a search for the other."""

    um: Reference = None
    dois: Reference = None
    prefere: Literal["into", "from"] = "into"
    q: Text = None


@console_same_person.get("")
@admin_required
def choose() -> ResponseReturnValue:
    """Choose the other one, among candidates or by a search; then show both side by side."""
    choice = read_query(Choice)
    if choice.um and choice.dois:
        return _render_pair(choice)
    term = search_term(choice.q)
    with transaction() as session:
        side = _load(session, choice.um) if choice.um else None
        found = (
            same_person.find_accounts_and_profiles(session, term, limit=MOST_RESULTS)
            if term
            else []
        )
        candidates = same_person.find_candidates(session, side) if side else []
    return render_template(
        "console_same_person.html",
        choice=choice,
        side=side,
        candidates=[(each, _reference(each.side)) for each in candidates],
        found=[(each, _reference(each)) for each in found if not side or each.key != side.key],
    )


@console_same_person.post("")
@admin_required
def confirm() -> ResponseReturnValue:
    """Merge both, as previewed."""
    choice = validate_model(Choice, request.form.to_dict())
    if not (choice.um and choice.dois):
        return redirect(url_for(".choose", um=choice.um), code=303)
    try:
        confirm_change("same_person", _change_request(choice))
    except ConflictError as err:
        return _render_pair(choice, CONFLICTS[err.kind])
    flash_user("Pronto: agora é uma pessoa só.")
    with transaction() as session:
        user_id, mentorado_id = _load(session, choice.um).key
    if user_id is not None:
        return redirect(url_for("console_users.show", user_id=user_id), code=303)
    return redirect(url_for("console_mentees.show", mentorado_id=mentorado_id), code=303)


def _render_pair(choice: Choice, note: str = "") -> ResponseReturnValue:
    """Show both side by side and what would happen; an account always stays before a profile."""
    with transaction() as session:
        sides = _load_both(session, choice)
        profiles = [side.profile for side in sides]
        counts = [count_references(session, each.id) if each else {} for each in profiles]
    if sides[0].user is None and sides[1].user is not None:
        return redirect(url_for(".choose", um=choice.dois, dois=choice.um), code=302)
    found: Preview | None = None
    try:
        found = preview_change(_change_request(choice))
    except ConflictError as err:
        note = note or CONFLICTS[err.kind]
    page = render_template(
        "console_same_person_pair.html",
        choice=choice,
        sides=list(zip(sides, counts, strict=True)),
        has_two_accounts=all(side.user for side in sides),
        found=found,
        note=note,
    )
    return page, 409 if note else 200


def _change_request(choice: Choice) -> ChangeRequest:
    """Return the change that unites both."""
    prefer, now = Prefer(choice.prefere), services().now()

    def apply(session: Session, source: Source) -> ChangeResult:
        sides = _load_both(session, choice)
        return same_person.merge_same_person(session, *sides, prefer=prefer, source=source, now=now)

    with transaction() as session:
        sides = _load_both(session, choice)
    subjects = [
        Subject(kind, number)
        for side in sides
        for kind, number in zip((SubjectKind.USER, SubjectKind.PROFILE), side.key, strict=True)
        if number is not None
    ]
    name = f"same_person/{choice.um}/{choice.dois}"
    return ChangeRequest(name, {"prefere": choice.prefere}, subjects, apply)


def _load(session: Session, reference: str) -> AccountOrProfile:
    kind, _, number = reference.partition("-")
    return LOADERS[kind](session, int(number))


def _load_both(session: Session, choice: Choice) -> tuple[AccountOrProfile, AccountOrProfile]:
    return _load(session, choice.um or ""), _load(session, choice.dois or "")


def _reference(side: AccountOrProfile) -> str:
    user_id, mentorado_id = side.key
    return f"conta-{user_id}" if user_id is not None else f"perfil-{mentorado_id}"
