"""The support desk's first page: is everybody being helped, and by which parts?"""

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

import health
import metrics
from blueprints.acting import admins_entry, log
from blueprints.bodies import Because, checked
from blueprints.errors import InvalidInputError
from blueprints.stance import admin_required
from blueprints.toasts import tell
from extensions import transaction
from house import house
from provisioning import switch
from provisioning.errors import DatabaseUnavailableError
from provisioning.vitals import take_vitals

desk = Blueprint("desk", __name__, url_prefix="/admin")

WANTED = {"sim": True, "nao": False}
NEITHER = "Diga se é para ligar ou para desligar."


@desk.get("")
@admin_required
def overview() -> ResponseReturnValue:
    """How people have fared in the last day, who waits, and how the parts are."""
    now = house().now()
    with transaction() as session:
        vitals = take_vitals(session, now=now)
    reading, directory = house().gauges.reading(), house().guarantee.directory
    if reading is None:
        raise DatabaseUnavailableError("who waits could not be counted")
    return render_template(
        "desk.html",
        vitals=vitals,
        backlog=reading.backlog,
        now=now,
        is_forced_off=not house().config.enable_auto_create,
        redis=health.redis(is_configured=house().config.redis_url is not None),
        hit_ratio=metrics.cache_hit_ratio(),
        is_clerk_answering=directory is None or directory.is_answering,
    )


@desk.get("/criacao-automatica")
@admin_required
def confirm_switch() -> ResponseReturnValue:
    """What turning the switch would mean."""
    with transaction() as session:
        is_on = switch.is_on(session)
    return render_template("desk_switch.html", is_on=is_on)


@desk.post("/criacao-automatica")
@admin_required
def turn_switch() -> ResponseReturnValue:
    """Turn the automatic creation of profiles on or off, everywhere at once."""
    wanted = WANTED.get(request.form.get("ligar", ""))
    if wanted is None:  # a form that has lost its field must not turn anything off
        raise InvalidInputError([{"field": "ligar", "message": NEITHER}])
    reason = checked(Because, {"reason": request.form.get("reason", "")}).reason
    with transaction() as session:
        is_turned = switch.is_on(session) != wanted
        if is_turned:
            switch.turn(session, on=wanted, entry=admins_entry(reason), now=house().now())
    if is_turned:  # a second click has changed nothing
        log.warning("auto_create_changed", enabled=wanted, entry="admin")
    tell("Criação automática ligada." if wanted else "Criação automática desligada.")
    return redirect(url_for(".overview"), code=303)
