"""Profiles in the hands of admins: registered before their person comes, linked, taken away."""

from typing import Any, Literal

from flask import Blueprint, g
from flask.typing import ResponseReturnValue

from blueprints.acting import admins_entry, apply
from blueprints.bodies import Amount, Body, Email, Name, WebAddress, read_body
from blueprints.lists import ID
from blueprints.stance import admin_required
from extensions import transaction
from house import house
from provisioning import repairs
from provisioning.registration import pre_register
from session_context import mentorado_shape

admin_mentorados = Blueprint("admin_mentorados", __name__, url_prefix="/api/admin/mentorados")


class Registration(Body):
    """A profile as the team writes it; what is left out takes the table's default."""

    nome_completo: Name
    email: Email | None = None
    foto_url: WebAddress | None = None
    turma: Literal["neon"] = "neon"
    meta_faturamento: Amount = 16_000
    meta_leads: Amount = 50
    meta_procedimentos: Amount = 10
    meta_posts: Amount = 12
    meta_stories: Amount = 60


class LinkRequest(Body):
    """Whose the profile shall be."""

    user_id: int


@admin_mentorados.post("")
@admin_required
def register() -> ResponseReturnValue:
    """Pre-register a mentee; 200 where their untouched automatic profile took the data over."""
    wanted = read_body(Registration)
    values: dict[str, Any] = wanted.model_dump(exclude_unset=True)
    with transaction() as session:
        registered = pre_register(session, values, entry=admins_entry(), now=house().now())
    if registered.clerk_id is not None:
        house().guarantee.contexts.renew(registered.clerk_id)
    return mentorado_shape(registered.mentorado), 201 if registered.is_new else 200


@admin_mentorados.delete(f"/<{ID}:mentorado_id>")
@admin_required
def remove(mentorado_id: int) -> ResponseReturnValue:
    """Delete a profile; its person is blocked until `allow`."""
    apply(repairs.remove, mentorado_id, now=house().now())
    return "", 204


@admin_mentorados.post(f"/<{ID}:mentorado_id>/link")
@admin_required
def link(mentorado_id: int) -> ResponseReturnValue:
    """Give the profile to a person."""
    user_id = read_body(LinkRequest).user_id
    apply(repairs.link, mentorado_id, user_id, now=house().now())
    return {"id": mentorado_id, "user_id": user_id, "request_id": g.request_id}


@admin_mentorados.post(f"/<{ID}:mentorado_id>/unlink")
@admin_required
def unlink(mentorado_id: int) -> ResponseReturnValue:
    """Take the profile out of its owner's hands."""
    apply(repairs.unlink, mentorado_id, now=house().now())
    return {"id": mentorado_id, "user_id": None, "request_id": g.request_id}
