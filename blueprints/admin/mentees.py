"""The support desk's mentees: listed, and anybody's dashboard to look at."""

from typing import Annotated

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from pydantic import BeforeValidator, Field

from core.database import transaction
from dashboard.chart import draw_chart
from dashboard.overview import read_overview
from dashboard.periods import current_period
from models import Mentorado, User
from provisioning import audit
from provisioning.context import serialize_mentorado
from provisioning.queries import KINDS, MenteeKind, list_mentees
from web.access_policy import admin_required
from web.admin_labels import event_name
from web.errors import NotFoundError
from web.services import services
from web.validation import ID, Digits, Search, read_query

console_mentees = Blueprint("console_mentees", __name__, url_prefix="/admin/mentorados")

OF_ONE = f"/<{ID}:mentorado_id>"
PAGE_SIZE = 50
HISTORY_SIZE = 50


def _kind(text: str) -> MenteeKind | None:
    """A kind that there is not means all."""
    return next((kind for kind in MenteeKind if kind == text), None)


class MenteesPage(Search):
    """Which profiles are meant."""

    limit: Annotated[int, Field(ge=1, le=PAGE_SIZE), Digits] = PAGE_SIZE
    tipo: Annotated[MenteeKind | None, BeforeValidator(_kind)] = None


@console_mentees.get("")
@admin_required
def index() -> ResponseReturnValue:
    """Profiles in key order: of one kind, or those whose name or address has the text in it."""
    asked = read_query(MenteesPage)
    with transaction() as session:
        found = list_mentees(
            session, kind=asked.tipo, wanted=asked.q, after_id=asked.cursor, limit=asked.limit
        )
    return render_template(
        "console_mentees.html",
        mentees=found,
        kinds=KINDS,
        kind=asked.tipo,
        wanted=asked.q or "",
        next_id=found[-1].id if len(found) == asked.limit else None,
    )


@console_mentees.get(OF_ONE)
@admin_required
def show(mentorado_id: int) -> ResponseReturnValue:
    """One profile with its dashboard, as its mentee sees it, and what has happened to it."""
    profile = the_profile(mentorado_id)
    with transaction() as session:
        owner = session.get(User, profile.user_id) if profile.user_id else None
        overview = read_overview(session, mentorado_id, now=services().now())
        history = audit.events(session, mentorado_id=mentorado_id, limit=HISTORY_SIZE)
    return render_template(
        "console_mentee.html",
        mentorado=serialize_mentorado(profile),
        profile=profile,
        owner=owner,
        overview=overview,
        this_month=current_period(services().now()),
        chart=draw_chart(overview.months) if overview.months else None,
        history=[(event, event_name(event)) for event in history],
    )


def the_profile(mentorado_id: int) -> Mentorado:
    """The profile of that number; raises NotFoundError."""
    with transaction() as session:
        found = session.get(Mentorado, mentorado_id)
    if found is None:
        raise NotFoundError(f"there is no mentorado {mentorado_id}")
    return found
