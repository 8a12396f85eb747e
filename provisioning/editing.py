"""Correcting a profile by hand: its name, address, photo, goals, and whether it is active."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy.orm import Session

from provisioning.audit import Entry
from provisioning.registration import MentoradoExistsError, settle_address
from provisioning.repairs import end_contexts_of_heirs, lock_profile_with_users, record_action


def edit(
    session: Session,
    mentorado_id: int,
    *,
    changes: Mapping[str, str | int | None],
    entry: Entry,
    now: datetime,
) -> list[str]:
    """Write checked values of columns into a profile; the audit event has the values before.

    A profile without owner that is given the proven address of a user who has none, or an untouched
    automatic one, is theirs at their next request. Returns the Clerk ids of the users who must see
    the change. Raises UnknownMentoradoError, MentoradoExistsError for an address that another
    profile has, and StaleDecisionError as `lock_profile_with_users` does.
    """
    address = changes.get("email")
    new_address = address if isinstance(address, str) else None
    profile, users = lock_profile_with_users(session, mentorado_id, address=new_address)
    owner = users[profile.user_id] if profile.user_id is not None else None
    if new_address is not None:
        taken = settle_address(session, new_address, apart_from=mentorado_id)
        if taken and owner is not None:
            raise MentoradoExistsError(taken[0].id)
    before = {column: getattr(profile, column) for column in changes}
    changed = sorted(column for column, value in changes.items() if value != before[column])
    if changed:
        for column in changed:
            setattr(profile, column, changes[column])
        profile.edited_at = profile.updated_at = now
        record_action(
            session,
            entry,
            "edit",
            user=owner,
            profile=profile,
            before={column: before[column] for column in changed},
            after={column: changes[column] for column in changed},
        )
    # Also where nothing changed: an earlier try of this request may have committed.
    return [owner.clerk_id] if owner else end_contexts_of_heirs(session, profile)
