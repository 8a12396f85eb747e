"""A change at the support desk: asked for, shown, confirmed with a reason, and done as shown."""

from collections.abc import Mapping
from dataclasses import dataclass

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from blueprints.acting import admins_entry, apply_work
from blueprints.bodies import Because, checked
from blueprints.desk_table import OFFERS, PERSON, PROFILE, Nothing, Offer, Told, journey_of
from blueprints.desk_words import CONFLICTS, FIELDS, differences
from blueprints.errors import Errors, InvalidInputError, NotFoundError
from blueprints.lists import ID
from blueprints.month_bodies import BY_HAND
from blueprints.retrying import run_with_retry
from blueprints.stance import admin_required
from blueprints.toasts import tell
from extensions import transaction
from house import house
from models import Mentorado
from provisioning import merging
from provisioning.confirming import Preview, Proposal, confirm, preview
from provisioning.moving import Clash
from provisioning.registration import MentoradoExistsError
from provisioning.repairs import ConflictError

desk_changes = Blueprint("desk_changes", __name__, url_prefix="/admin")

PATH = f"/<any({PERSON}, {PROFILE}):subject>/<{ID}:subject_id>/<key>"
MARK = "marca"  # the field that says what was shown
REFUSALS = (InvalidInputError, ConflictError, MentoradoExistsError)


@dataclass(frozen=True, slots=True)
class Matter:
    """An offer, and what it is about."""

    offer: Offer
    subject: str
    subject_id: int
    key: str

    def read(self, given: Mapping[str, str]) -> Told:
        """Check what was told; raises InvalidInputError."""
        fields = {name: given.get(name, "").strip() for name in self.offer.asks.model_fields}
        filled = {name: value for name, value in fields.items() if value or name in given}
        return checked(self.offer.asks, filled, BY_HAND).model_dump()

    @property
    def page(self) -> str:
        """The page of what it is about."""
        if self.subject == PERSON:
            return url_for("desk_people.show", user_id=self.subject_id)
        return url_for("desk_mentees.show", mentorado_id=self.subject_id)

    def proposal(self, told: Told) -> Proposal:
        """The change with its values, to be previewed or confirmed."""
        now, is_person = house().now(), self.subject == PERSON
        return Proposal(
            name=f"{self.subject}/{self.subject_id}/{self.key}",
            values=told,
            change=lambda s, entry: self.offer.do(s, self.subject_id, told, entry, now),
            look=self.offer.look(self.subject, self.subject_id, told),
            user_id=self.subject_id if is_person else None,
            mentorado_id=None if is_person else self.subject_id,
        )


@desk_changes.get(PATH)
@admin_required
def ask(subject: str, subject_id: int, key: str) -> ResponseReturnValue:
    """What the change needs to be told; where that is nothing, what it would come to."""
    matter = _matter(subject, subject_id, key)
    if matter.offer.asks is not Nothing and not request.args:
        return _form(matter, {})
    return _shown(matter, request.args)


@desk_changes.post(PATH)
@admin_required
def act(subject: str, subject_id: int, key: str) -> ResponseReturnValue:
    """Show what the change would come to; with the mark of what was shown, do it."""
    matter = _matter(subject, subject_id, key)
    return _done(matter) if MARK in request.form else _shown(matter, request.form)


def _matter(subject: str, subject_id: int, key: str) -> Matter:
    offer = OFFERS.get((subject, key))
    if offer is None:
        raise NotFoundError(f"there is no change {key}")
    return Matter(offer, subject, subject_id, key)


def _shown(matter: Matter, given: Mapping[str, str], note: str = "") -> ResponseReturnValue:
    try:
        told = matter.read(given)
        shown, clashes = _preview(matter, told)
    except REFUSALS as err:
        return _form(matter, given, _errors(err))
    page = render_template(
        "desk_confirm.html",
        matter=matter,
        given=told,
        note=note,
        mark=shown.digest,
        changes=differences(shown.before, shown.after),
        clashes=clashes,
    )
    return page, 409 if note else 200


def _preview(matter: Matter, told: Told) -> tuple[Preview, tuple[Clash, ...]]:
    entry, proposal, now = admins_entry(), matter.proposal(told), house().now()

    def work(session: Session) -> tuple[Preview, tuple[Clash, ...]]:
        shown = preview(session, proposal, entry=entry)
        if matter.key != "unir":
            return shown, ()
        journey = journey_of(matter.subject_id, told, entry)
        return shown, merging.preview(session, journey, entry=entry, now=now).clashes

    return run_with_retry(work)


def _done(matter: Matter) -> ResponseReturnValue:
    try:
        told = matter.read(request.form)
        reason = checked(Because, {"reason": request.form.get("reason", "")}).reason
        proposal, entry = matter.proposal(told), admins_entry(reason)
        digest = request.form[MARK]
        apply_work(matter.key, lambda s: confirm(s, proposal, digest=digest, entry=entry))
    except ConflictError as err:
        return _shown(matter, request.form, CONFLICTS[err.kind])
    except (InvalidInputError, MentoradoExistsError) as err:
        return _form(matter, request.form, _errors(err))
    tell(matter.offer.done)
    return redirect(_afterwards(matter, told), code=303)


def _form(matter: Matter, given: Mapping[str, str], errors: Errors = ()) -> ResponseReturnValue:
    """What the change asks for, filled in as far as it is known."""
    with transaction() as session:
        is_profile = matter.subject == PROFILE
        profile = session.get(Mentorado, matter.subject_id) if is_profile else None
    fields = matter.offer.asks.model_fields
    known = {name: getattr(profile, name, None) for name in fields}
    page = render_template(
        "desk_ask.html",
        matter=matter,
        labels=FIELDS,
        values={name: given.get(name, known[name]) for name in fields},
        errors=errors,
    )
    return page, 422 if errors else 200


def _errors(err: Exception) -> Errors:
    if isinstance(err, InvalidInputError):
        return err.errors
    if isinstance(err, MentoradoExistsError):
        words = f"O perfil nº {err.mentorado_id} já tem este e-mail. Una os dois perfis."
        return [{"field": "", "message": words}]
    return [{"field": "", "message": CONFLICTS[err.kind]}] if isinstance(err, ConflictError) else []


def _afterwards(matter: Matter, told: Told) -> str:
    """Where to look at the result: where it was asked for, or where everything has gone."""
    if not matter.offer.ends_it:
        return matter.page
    if "destino" in told:
        return url_for("desk_mentees.show", mentorado_id=told["destino"])
    return url_for("desk_mentees.index")
