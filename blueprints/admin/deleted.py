"""The admin console's deleted profiles, which can be restored for thirty days."""

from flask import Blueprint, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from core.database import transaction
from models import Mentorado
from provisioning import deleted_profiles
from provisioning.admin_actions import ConflictError
from provisioning.deleted_profiles import DeletedProfile, RestoredProfile
from web.access_policy import admin_required
from web.admin_change import admin_source, apply_admin_work, typed_reason
from web.admin_labels import CONFLICTS
from web.errors import HttpError
from web.request_context import flash_user
from web.services import services
from web.validation import ID_CONVERTER

console_deleted = Blueprint("console_deleted", __name__, url_prefix="/admin/mentorados/excluidos")

RESTORED = "Perfil restaurado, com tudo o que era dele."
WITHOUT_OWNER = (
    "Perfil restaurado sem dono, porque a pessoa usa outro perfil ou excluiu a conta. Para juntar "
    "dois perfis, use «Unir a outro»."
)
WITHOUT_ADDRESS = "Perfil restaurado sem e-mail, porque outro perfil já tem o e-mail dele."
MERGED = "Este perfil foi unido a outro: é este aqui."


@console_deleted.get("")
@admin_required
def index() -> ResponseReturnValue:
    """List the profiles that were deleted in the last thirty days."""
    with transaction() as session:
        found = deleted_profiles.list_deleted(session, services().now())
    return render_template("console_deleted_profiles.html", deleted=found)


@console_deleted.get(f"/<{ID_CONVERTER}:mentorado_id>")
@admin_required
def show(mentorado_id: int) -> ResponseReturnValue:
    """Show one deleted profile, with what comes back."""
    return _render(_get_deleted(mentorado_id))


@console_deleted.post(f"/<{ID_CONVERTER}:mentorado_id>")
@admin_required
def restore(mentorado_id: int) -> ResponseReturnValue:
    """Restore a deleted profile; a second click leads to it."""
    page = redirect(url_for("console_mentees.show", mentorado_id=mentorado_id), code=303)
    with transaction() as session:
        if session.get(Mentorado, mentorado_id) is not None:
            return page
    deleted = _get_deleted(mentorado_id)
    reason = typed_reason()
    source, now, restored = admin_source(reason), services().now(), list[RestoredProfile]()

    def work(session: Session) -> list[str]:
        restored.append(deleted_profiles.restore(session, mentorado_id, source=source, now=now))
        return restored[-1].clerk_ids

    try:
        apply_admin_work("restore", work)
    except ConflictError as err:
        return _render(deleted, CONFLICTS[err.kind]), 409
    flash_user(_message(restored[-1]))
    return page


def successor_url(mentorado_id: int) -> str | None:
    """Return the page of a deleted profile, or of the one it was merged into; None for neither."""
    with transaction() as session:
        kept_id = deleted_profiles.find_merged_into(session, mentorado_id)
        is_deleted = deleted_profiles.list_deleted(
            session, services().now(), mentorado_id=mentorado_id
        )
    if is_deleted:
        return url_for("console_deleted.show", mentorado_id=mentorado_id)
    if kept_id is None:
        return None
    flash_user(MERGED)
    return url_for("console_mentees.show", mentorado_id=kept_id)


def _message(restored: RestoredProfile) -> str:
    if restored.has_lost_owner:
        return WITHOUT_OWNER
    return WITHOUT_ADDRESS if restored.has_lost_address else RESTORED


def _get_deleted(mentorado_id: int) -> DeletedProfile:
    with transaction() as session:
        found = deleted_profiles.list_deleted(session, services().now(), mentorado_id=mentorado_id)
    if not found:
        raise HttpError("not_found", f"there is no deleted mentorado {mentorado_id}")
    return found[0]


def _render(deleted: DeletedProfile, error: str = "") -> str:
    return render_template("console_deleted_profile.html", deleted=deleted, error=error)
