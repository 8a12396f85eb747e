"""«É a mesma pessoa»: choose two accounts or profiles, see them side by side, and unite them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError
from sqlalchemy.orm import Session

from core.database import transaction
from provisioning.audit import Source
from provisioning.errors import ConflictError
from provisioning.merge import Prefer
from provisioning.preview import ChangeRequest, ChangeResult, Preview, Subject, SubjectKind
from provisioning.references import count_references
from provisioning.same_person import (
    Party,
    find_candidates,
    find_parties,
    load_profile_party,
    load_user_party,
    unite,
)
from web.access_policy import admin_required
from web.admin_change import confirm_change, preview_change
from web.admin_labels import CONFLICTS
from web.flashes import flash_user
from web.services import services
from web.validation import MAX_ID, Query, Text, read_query, search_term, validate_model

console_same_person = Blueprint("console_same_person", __name__, url_prefix="/admin/mesma-pessoa")

MOST_FOUND = 20
LOADERS: dict[str, Callable[[Session, int], Party]] = {
    "conta": load_user_party,
    "perfil": load_profile_party,
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


@dataclass(frozen=True, slots=True)
class Side:
    """A party as the page shows it, with its number of rows by table."""

    party: Party
    reference: str
    rows: dict[str, int]


@console_same_person.get("")
@admin_required
def choose() -> ResponseReturnValue:
    """Choose the other one, among candidates or by a search; then show both side by side."""
    choice = read_query(Choice)
    if choice.um and choice.dois:
        return _render_pair(choice)
    term = search_term(choice.q)
    with transaction() as session:
        party = _load(session, choice.um) if choice.um else None
        found = find_parties(session, term, limit=MOST_FOUND) if term else []
        candidates = find_candidates(session, party) if party else []
    return render_template(
        "console_same_person.html",
        choice=choice,
        party=party,
        candidates=[(each, _reference(each.party)) for each in candidates],
        found=[(each, _reference(each)) for each in found if not party or each.key != party.key],
    )


@console_same_person.post("")
@admin_required
def confirm() -> ResponseReturnValue:
    """Unite both, as previewed."""
    choice = validate_model(Choice, request.form.to_dict())
    if not (choice.um and choice.dois):
        return redirect(url_for(".choose", um=choice.um), code=303)
    try:
        confirm_change("same_person", _change_request(choice))
    except ConflictError as err:
        return _render_pair(choice, CONFLICTS[err.kind])
    flash_user("Pronto: agora é uma pessoa só.")
    with transaction() as session:
        kept = _load(session, choice.um)
    return redirect(_page_of(kept), code=303)


def _render_pair(choice: Choice, note: str = "") -> ResponseReturnValue:
    """Show both side by side and what would happen; an account always stays before a profile."""
    with transaction() as session:
        sides = [_side(session, reference) for reference in (choice.um, choice.dois) if reference]
    if sides[0].party.user is None and sides[1].party.user is not None:
        return redirect(url_for(".choose", um=choice.dois, dois=choice.um), code=302)
    found: Preview | None = None
    try:
        found = preview_change(_change_request(choice))
    except ConflictError as err:
        note = note or CONFLICTS[err.kind]
    page = render_template(
        "console_same_person_pair.html",
        choice=choice,
        sides=sides,
        has_two_accounts=all(side.party.user for side in sides),
        digest=found.digest if found else None,
        conflicts=found.conflicts if found else (),
        note=note,
    )
    return page, 409 if note else 200


def _change_request(choice: Choice) -> ChangeRequest:
    """Return the change that unites both."""
    prefer, now = Prefer(choice.prefere), services().now()

    def load_both(session: Session) -> tuple[Party, Party]:
        return _load(session, choice.um or ""), _load(session, choice.dois or "")

    def apply(session: Session, source: Source) -> ChangeResult:
        return unite(session, *load_both(session), prefer=prefer, source=source, now=now)

    with transaction() as session:
        parties = load_both(session)
    return ChangeRequest(
        name=f"same_person/{choice.um}/{choice.dois}",
        values={"prefere": choice.prefere},
        subjects=[subject for party in parties for subject in _subjects(party)],
        apply=apply,
    )


def _subjects(party: Party) -> list[Subject]:
    user_id, mentorado_id = party.key
    ids = ((SubjectKind.USER, user_id), (SubjectKind.PROFILE, mentorado_id))
    return [Subject(kind, number) for kind, number in ids if number is not None]


def _load(session: Session, reference: str) -> Party:
    kind, _, number = reference.partition("-")
    return LOADERS[kind](session, int(number))


def _side(session: Session, reference: str) -> Side:
    party = _load(session, reference)
    rows = count_references(session, party.profile.id) if party.profile else {}
    return Side(party, _reference(party), rows)


def _reference(party: Party) -> str:
    user_id, mentorado_id = party.key
    return f"conta-{user_id}" if user_id is not None else f"perfil-{mentorado_id}"


def _page_of(party: Party) -> str:
    user_id, mentorado_id = party.key
    if user_id is not None:
        return url_for("console_users.show", user_id=user_id)
    return url_for("console_mentees.show", mentorado_id=mentorado_id)
