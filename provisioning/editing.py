"""Correcting a profile by hand: its name, address, photo, goals, and whether it is active."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy.orm import Session

from provisioning.audit import Entry
from provisioning.registration import MentoradoExistsError, settle_address
from provisioning.repairs import locked_owner, locked_profile, record_action


def edit(
    session: Session,
    mentorado_id: int,
    *,
    changes: Mapping[str, str | int | None],
    entry: Entry,
    now: datetime,
) -> list[str]:
    """Write checked values of columns into a profile, with what was there before on record.

    A profile that waits and is given the proven address of somebody who has none, or an untouched
    automatic one, is theirs at their next request. Returns the Clerk ids of whoever must see the
    change. Raises UnknownMentoradoError, and MentoradoExistsError for an address that another
    profile has.
    """
    owner = locked_owner(session, mentorado_id)
    address = changes.get("email")
    heirs: list[str] = []
    if isinstance(address, str):
        taken = settle_address(session, address, apart_from=mentorado_id)
        if taken and owner is not None:
            raise MentoradoExistsError(taken[0].id)
        heirs = [taken[1].clerk_id] if taken else []
    profile = locked_profile(session, mentorado_id)
    before = {column: getattr(profile, column) for column in changes}
    changed = {column for column, value in changes.items() if value != before[column]}
    if not changed:
        return []
    for column in changed:
        setattr(profile, column, changes[column])
    profile.edited_at = profile.updated_at = now
    record_action(
        session,
        entry,
        "edit",
        user=owner,
        profile=profile,
        before={column: before[column] for column in sorted(changed)},
        after={column: changes[column] for column in sorted(changed)},
    )
    return [owner.clerk_id] if owner else heirs
