"""Meeting a person: written down, held still and known, in one message to the database."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Column, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session
from sqlalchemy.types import Integer

from auth.identity import Identity
from models import AppSetting, Mentorado, User
from provisioning.errors import StaleDecisionError
from provisioning.profiles import (
    ADDRESS_LOCKS,
    AUTO_CREATE,
    MENTORADO_COLUMNS,
    USER_COLUMNS,
    MentoradoRow,
    UserRow,
    is_untouched,
    mentorado_row,
    unlinked_profiles,
    user_row,
)
from provisioning.rules import DecisionFacts, Rules


@dataclass(frozen=True, slots=True)
class LoadedUser:
    """A person as they stand: their own profile, whether the stored switch lets one be created, and
    at most two ids of profiles that nobody owns and that have the person's *verified* address.
    """

    user: UserRow
    profile: MentoradoRow | None
    is_switched_on: bool
    matches: tuple[int, ...]

    def effective_rules(self, rules: Rules) -> Rules:
        """The rules as the stored switch leaves them."""
        return replace(rules, auto_create=rules.auto_create and self.is_switched_on)


COLUMNS = (
    *USER_COLUMNS,
    *MENTORADO_COLUMNS,
    AppSetting.__table__.c.value,
    Column("matches", ARRAY(Integer)),
)
# The function is of migration 0010, where every rule of what is stored stands.
UPSERT_AND_LOAD = text(f"""
    SELECT {", ".join(f"(met.person).{column.name}" for column in USER_COLUMNS)},
           {", ".join(f"(met.profile).{column.name}" for column in MENTORADO_COLUMNS)},
           met.switch, met.matches
      FROM meet_person(:clerk_id, :name, :email, :email_verified, :image_url, :login_method,
                       :is_complete, :as_of, :signs_in, :now,
                       {ADDRESS_LOCKS}, '{AUTO_CREATE}') AS met
""").columns(*COLUMNS)  # noqa: S608 - names of columns, and constants
IDENTITY_FIELDS = [field.name for field in fields(Identity)]
LOAD = (
    select(*USER_COLUMNS, *MENTORADO_COLUMNS, AppSetting.value)
    .select_from(User)
    .outerjoin(Mentorado, Mentorado.user_id == User.id)
    .outerjoin(AppSetting, AppSetting.key == AUTO_CREATE)
    .where(User.clerk_id == bindparam("clerk_id"))
)


def upsert_and_load_user(
    session: Session, identity: Identity, *, signs_in: bool, now: datetime
) -> LoadedUser:
    """Store what the identity knows and learn how the person stands, in one round trip.

    Until the commit their row is locked, so that calls for one person queue up, and where a waiting
    profile may become theirs they have the turn of their address: others of it, and whoever
    pre-registers it, wait.
    """
    session.flush()  # what the caller has changed counts as well, and text does not see to it
    told = {name: getattr(identity, name) for name in IDENTITY_FIELDS}
    values = {**told, "signs_in": signs_in, "now": now}
    return _loaded_user(session.connection().execute(UPSERT_AND_LOAD, values).one())


def upsert_user(session: Session, identity: Identity, *, signs_in: bool, now: datetime) -> User:
    """Store what the identity knows and return the person's row, locked as by `meet`."""
    met = upsert_and_load_user(session, identity, signs_in=signs_in, now=now)
    return session.get_one(User, met.user.id, populate_existing=True)


def load_user(session: Session, clerk_id: str) -> LoadedUser:
    """How a known person stands just now; writes nothing, locks nothing and waits for nobody.

    Raises NoResultFound for a person who is not known.
    """
    session.flush()  # as above
    row = session.execute(LOAD, {"clerk_id": clerk_id}).one()
    seen = _loaded_user([*row, ()])
    is_proven = seen.user.email_verified and seen.user.email
    return replace(
        seen, matches=unlinked_profiles(session, str(seen.user.email)) if is_proven else ()
    )


def _loaded_user(row: Sequence[Any]) -> LoadedUser:
    user, (*profile, switch, matches) = row[: len(USER_COLUMNS)], row[len(USER_COLUMNS) :]
    owned = mentorado_row(profile) if profile[0] is not None else None
    return LoadedUser(user_row(user), owned, switch is not False, tuple(matches))


def lock_profile(session: Session, met: LoadedUser) -> LoadedUser:
    """The same encounter, its profile locked until the commit where it may have to make room.

    Raises StaleDecisionError when the profile has gone meanwhile.
    """
    if not _matches(met) or met.profile is None:
        return met
    return replace(met, profile=_lock_profile(session, met.profile))


def decision_facts(session: Session, met: LoadedUser) -> DecisionFacts:
    """What `decide` has to know; asks the database only about a profile that may make room."""
    user, profile, matches = met.user, met.profile, _matches(met)
    return DecisionFacts(
        is_deleted=user.deleted_at is not None,
        is_blocked=user.blocked_at is not None,
        is_admin=user.is_admin,
        has_profile=profile is not None,
        is_untouched=bool(matches) and profile is not None and is_untouched(session, profile),
        matches=matches,
    )


def _matches(met: LoadedUser) -> tuple[int, ...]:
    """The waiting profiles that could still become theirs."""
    is_free = met.profile.is_unedited if met.profile else not met.user.is_admin
    return met.matches if is_free else ()


def _lock_profile(session: Session, profile: MentoradoRow) -> MentoradoRow:
    """Let a month being saved meanwhile either show up here or fail on its foreign key."""
    this = select(*MENTORADO_COLUMNS).where(Mentorado.id == profile.id).with_for_update()
    row = session.execute(this).one_or_none()
    if row is None:
        raise StaleDecisionError(f"mentorado {profile.id} has gone meanwhile")
    return mentorado_row(row)
