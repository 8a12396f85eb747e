"""The admin console's mentees: a list, the dashboard of each, and the deleted profiles."""

from typing import Annotated

from flask import Blueprint, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from pydantic import BeforeValidator
from sqlalchemy import select

from blueprints.admin.change_types import dangers_of_profile
from core.database import transaction
from dashboard.chart import draw_chart
from dashboard.month_view import view_month
from dashboard.months import read_report
from dashboard.periods import current_period
from models import Mentorado, User
from provisioning import audit, deleted_profiles
from provisioning.deleted_profiles import DeletedProfile
from provisioning.errors import ConflictError
from provisioning.references import count_references
from provisioning.user_lists import MenteeKind, list_mentees
from web.access_policy import admin_required
from web.admin_change import admin_source, apply_admin_work, typed_reason
from web.admin_labels import CONFLICTS
from web.errors import HttpError
from web.flashes import flash_user
from web.month_input import selected_measure
from web.services import services
from web.validation import ID_CONVERTER, Search, read_query, search_term

console_mentees = Blueprint("console_mentees", __name__, url_prefix="/admin/mentorados")
console_deleted = Blueprint("console_deleted", __name__, url_prefix="/admin/mentorados/excluidos")

PROFILE_PATH = f"/<{ID_CONVERTER}:mentorado_id>"
PAGE_SIZE = 50
HISTORY_SIZE = 50
WITHOUT_OWNER = (
    "Perfil restaurado sem dono, porque a pessoa usa outro perfil ou excluiu a conta. Para juntar "
    "dois perfis, use «Unir a outro»."
)
WITHOUT_ADDRESS = "Perfil restaurado sem e-mail, porque outro perfil já tem o e-mail dele."
Kind = BeforeValidator(lambda text: text if text in list(MenteeKind) else None)


class MenteesPage(Search):
    """Filters of the list; an unknown kind means all kinds."""

    tipo: Annotated[MenteeKind | None, Kind] = None


@console_mentees.get("")
@admin_required
def index() -> ResponseReturnValue:
    """List profiles by id: of one kind, or found by a search."""
    query = read_query(MenteesPage).model_copy(update={"limit": PAGE_SIZE})
    with transaction() as session:
        term, after_id = search_term(query.q), query.cursor
        mentees = list_mentees(
            session, kind=query.tipo, search=term, after_id=after_id, limit=query.limit
        )
    return render_template(
        "console_mentees.html",
        mentees=mentees,
        kinds=MenteeKind,
        kind=query.tipo,
        search_text=query.q or "",
        next_id=mentees[-1].id if len(mentees) == query.limit else None,
    )


@console_mentees.get(PROFILE_PATH)
@admin_required
def show(mentorado_id: int) -> ResponseReturnValue:
    """Show one profile with its dashboard, as its mentee sees it, and its history."""
    with_owner = select(Mentorado, User).outerjoin(User, User.id == Mentorado.user_id)
    with transaction() as session:
        row = session.execute(with_owner.where(Mentorado.id == mentorado_id)).one_or_none()
    if row is None:
        if url := successor_url(mentorado_id):
            return redirect(url)
        raise HttpError("not_found", f"there is no mentorado {mentorado_id}")
    profile, owner = row
    with transaction() as session:
        report = read_report(session, mentorado_id)
        history = audit.read_history(session, mentorado_id=mentorado_id, limit=HISTORY_SIZE)
        names = audit.read_names(session, history)
        counts = count_references(session, mentorado_id)
    now = services().now()
    return render_template(
        "console_mentee.html",
        profile=profile,
        owner=owner,
        dangers=dangers_of_profile(profile, owner, counts),
        report=report,
        view=view_month(report, None, now=now),
        this_month=current_period(now),
        chart=draw_chart(report.months, selected_measure()) if report.months else None,
        history=history,
        names=names,
    )


def get_profile(mentorado_id: int) -> Mentorado:
    """Return the profile with that id; raises HttpError `not_found`."""
    with transaction() as session:
        profile = session.get(Mentorado, mentorado_id)
    if profile is None:
        raise HttpError("not_found", f"there is no mentorado {mentorado_id}")
    return profile


@console_deleted.get("")
@admin_required
def list_deleted() -> ResponseReturnValue:
    """List the profiles that were deleted in the last thirty days."""
    with transaction() as session:
        found = deleted_profiles.list_deleted(session, services().now())
    return render_template("console_deleted_profiles.html", deleted=found)


@console_deleted.get(f"/<{ID_CONVERTER}:mentorado_id>")
@admin_required
def show_deleted(mentorado_id: int) -> ResponseReturnValue:
    """Show one deleted profile, with what comes back."""
    return render_template("console_deleted_profile.html", deleted=_get_deleted(mentorado_id))


@console_deleted.post(f"/<{ID_CONVERTER}:mentorado_id>")
@admin_required
def restore(mentorado_id: int) -> ResponseReturnValue:
    """Restore a deleted profile; a second click leads to it."""
    page = redirect(url_for("console_mentees.show", mentorado_id=mentorado_id), code=303)
    with transaction() as session:
        if session.get(Mentorado, mentorado_id) is not None:
            return page
    deleted = _get_deleted(mentorado_id)
    source, now = admin_source(typed_reason()), services().now()
    try:
        restored = apply_admin_work(
            "restore", lambda s: deleted_profiles.restore(s, mentorado_id, source=source, now=now)
        )
    except ConflictError as err:
        error = CONFLICTS[err.kind]
        return render_template("console_deleted_profile.html", deleted=deleted, error=error), 409
    if restored.has_lost_owner:
        flash_user(WITHOUT_OWNER)
    elif restored.has_lost_address:
        flash_user(WITHOUT_ADDRESS)
    else:
        flash_user("Perfil restaurado, com tudo o que era dele.")
    return page


def successor_url(mentorado_id: int) -> str | None:
    """Return the page of a deleted profile, or of the one it was merged into; None for neither."""
    with transaction() as session:
        kept_id = deleted_profiles.find_merged_into(session, mentorado_id)
        is_deleted = deleted_profiles.list_deleted(
            session, services().now(), mentorado_id=mentorado_id
        )
    if is_deleted:
        return url_for("console_deleted.show_deleted", mentorado_id=mentorado_id)
    if kept_id is None:
        return None
    flash_user("Este perfil foi unido a outro: é este aqui.")
    return url_for("console_mentees.show", mentorado_id=kept_id)


def _get_deleted(mentorado_id: int) -> DeletedProfile:
    with transaction() as session:
        found = deleted_profiles.list_deleted(session, services().now(), mentorado_id=mentorado_id)
    if not found:
        raise HttpError("not_found", f"there is no deleted mentorado {mentorado_id}")
    return found[0]
