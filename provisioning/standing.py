"""Where a person stands: the facts on which it is decided which profile is theirs."""

from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Mentorado
from provisioning.encounter import Encounter
from provisioning.errors import StaleDecisionError
from provisioning.linking import Standing
from provisioning.rows import MENTORADO_COLUMNS, MentoradoRow, mentorado_of
from provisioning.waiting import is_untouched


def held(session: Session, met: Encounter) -> Encounter:
    """The same encounter, its profile locked until the commit where it may have to make room.

    Raises StaleDecisionError when the profile has gone meanwhile.
    """
    if not _matches(met) or met.profile is None:
        return met
    return replace(met, profile=_lock_profile(session, met.profile))


def standing_of(session: Session, met: Encounter) -> Standing:
    """What `decide` has to know; asks the database only about a profile that may make room."""
    user, profile, matches = met.user, met.profile, _matches(met)
    return Standing(
        is_deleted=user.deleted_at is not None,
        is_blocked=user.blocked_at is not None,
        is_admin=user.is_admin,
        has_profile=profile is not None,
        is_untouched=bool(matches) and profile is not None and is_untouched(session, profile),
        matches=matches,
    )


def _matches(met: Encounter) -> tuple[int, ...]:
    """The waiting profiles that could still become theirs."""
    is_free = met.profile.is_unedited if met.profile else not met.user.is_admin
    return met.matches if is_free else ()


def _lock_profile(session: Session, profile: MentoradoRow) -> MentoradoRow:
    """Let a month being saved meanwhile either show up here or fail on its foreign key."""
    this = select(*MENTORADO_COLUMNS).where(Mentorado.id == profile.id).with_for_update()
    row = session.execute(this).one_or_none()
    if row is None:
        raise StaleDecisionError(f"mentorado {profile.id} has gone meanwhile")
    return mentorado_of(row)
