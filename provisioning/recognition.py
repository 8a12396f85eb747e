"""Is what we found our own work? After a commit whose answer was lost, the record tells."""

from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import AuditEvent
from provisioning.audit import Entry
from provisioning.ensure import CHANGES, Ensured, Outcome

EVENTS = {f"mentorado_{outcome}": outcome for outcome in CHANGES}


def recognised(session: Session, ensured: Ensured, entry: Entry) -> Ensured:
    """The outcome as the request's first try had it, whose commit may have arrived after all.

    For a try after the first: otherwise a profile would be there that nobody was told they have
    created. A door without a request id has nobody to tell.
    """
    if ensured.outcome is not Outcome.EXISTING or ensured.mentorado is None or not entry.request_id:
        return ensured
    ours = (AuditEvent.request_id == entry.request_id, AuditEvent.event.in_(EVENTS))
    of_theirs = AuditEvent.mentorado_id == ensured.mentorado.id
    told = select(AuditEvent.event).where(*ours, of_theirs).order_by(AuditEvent.id.desc()).limit(1)
    event = session.scalars(told).one_or_none()
    return replace(ensured, outcome=EVENTS[event]) if event else ensured
