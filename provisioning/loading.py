"""Store and load a user with their profile, in one round trip, and the facts of the decision."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Column, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Session
from sqlalchemy.types import Integer

from auth.identity import Identity
from models import AppSetting, Mentorado, User
from provisioning import audit
from provisioning.audit import Source
from provisioning.errors import StaleDecisionError
from provisioning.profiles import (
    ADDRESS_LOCKS,
    AUTO_CREATE,
    DEFAULT_NAME,
    MENTORADO_COLUMNS,
    USER_COLUMNS,
    MentoradoRow,
    UserRow,
    find_unlinked_ids,
    is_untouched,
)
from provisioning.rules import DecisionFacts


@dataclass(frozen=True, slots=True)
class LoadedUser:
    """A user with their own profile, the stored switch for auto-creation, and possible matches.

    `matches` are at most two ids of unlinked profiles with the user's *verified* address.
    `is_created`: the profile was created in this round trip.
    """

    user: UserRow
    profile: MentoradoRow | None
    is_auto_create_on: bool
    matches: tuple[int, ...]
    is_created: bool = False


COLUMNS = (
    *USER_COLUMNS,
    *MENTORADO_COLUMNS,
    AppSetting.__table__.c.value,
    Column("matches", ARRAY(Integer)),
    Column("is_created", Boolean),
)
# The functions of migrations 0018 and 0023 hold the rules for what is stored.
UPSERT_AND_LOAD = (
    text(f"""
    SELECT {", ".join(f"(loaded.loaded_user).{column.name}" for column in USER_COLUMNS)},
           {", ".join(f"(loaded.profile).{column.name}" for column in MENTORADO_COLUMNS)},
           loaded.switch, loaded.matches, loaded.is_created
      FROM upsert_user_and_create_profile(
               :clerk_id, :name, :email, :email_verified, :image_url, :login_method,
               :is_complete, :as_of, :signs_in, :now, {ADDRESS_LOCKS}, '{AUTO_CREATE}',
               :may_create, '{DEFAULT_NAME}', :entry, :actor_id, :request_id, :details) AS loaded
""")  # noqa: S608 - names of columns, and constants
    .bindparams(bindparam("details", type_=JSONB))
    .columns(*COLUMNS)
)
NO_EVENT = dict.fromkeys(("entry", "actor_id", "request_id", "details"))
IDENTITY_FIELDS = [field.name for field in fields(Identity)]
LOAD = (
    select(*USER_COLUMNS, *MENTORADO_COLUMNS, AppSetting.value)
    .select_from(User)
    .outerjoin(Mentorado, Mentorado.user_id == User.id)
    .outerjoin(AppSetting, AppSetting.key == AUTO_CREATE)
    .where(User.clerk_id == bindparam("clerk_id"))
)


def upsert_and_load_user(
    session: Session,
    identity: Identity,
    *,
    signs_in: bool,
    now: datetime,
    create_as: Source | None = None,
) -> LoadedUser:
    """Store the identity's known values and return the user as loaded, in one round trip.

    The user's row is locked until the commit, so that calls for one user queue up. Where an
    unlinked profile may be linked, the user's address is locked too: other users with that address
    and its pre-registration wait.

    With `create_as`, a user who was not stored before gets an automatic profile at once, and its
    audit event has this source. Not where an unlinked profile may be linked, or where the stored
    switch forbids automatic profiles.
    """
    session.flush()  # for the caller's changes; execution on the connection does not flush
    values = {name: getattr(identity, name) for name in IDENTITY_FIELDS}
    event = audit.event_values(create_as, "mentorado_created") if create_as else NO_EVENT
    values |= {**event, "signs_in": signs_in, "now": now, "may_create": create_as is not None}
    return _loaded_user(session.connection().execute(UPSERT_AND_LOAD, values).one())


def upsert_user(session: Session, identity: Identity, *, signs_in: bool, now: datetime) -> User:
    """Store the identity's known values and return the user's row, locked until the commit."""
    loaded = upsert_and_load_user(session, identity, signs_in=signs_in, now=now)
    return session.get_one(User, loaded.user.id, populate_existing=True)


def load_user(session: Session, clerk_id: str) -> LoadedUser:
    """Return a stored user as loaded; writes nothing, takes no lock and waits for none.

    Raises NoResultFound for an unknown user.
    """
    session.flush()  # as above
    row = session.execute(LOAD, {"clerk_id": clerk_id}).one()
    loaded = _loaded_user([*row, (), False])
    if not loaded.user.email or not loaded.user.email_verified:
        return loaded
    return replace(loaded, matches=find_unlinked_ids(session, loaded.user.email))


def _loaded_user(row: Sequence[Any]) -> LoadedUser:
    user, rest = row[: len(USER_COLUMNS)], row[len(USER_COLUMNS) :]
    *profile, switch, matches, is_created = rest
    owned = MentoradoRow(*profile) if profile[0] is not None else None
    return LoadedUser(UserRow(*user), owned, switch is not False, tuple(matches), is_created)


def read_facts(
    session: Session, loaded: LoadedUser, *, is_locking: bool
) -> tuple[LoadedUser, DecisionFacts]:
    """Return the facts for `decide`, and the user with the profile that they are about.

    Only a profile that a match may replace is queried; `is_locking` also locks it until the commit.
    Raises StaleDecisionError where it was deleted meanwhile.
    """
    user, profile, matches = loaded.user, loaded.profile, loaded.matches
    if is_locking and matches and profile is not None and profile.is_unedited:
        profile = _lock_profile(session, profile)
        loaded = replace(loaded, profile=profile)
    may_be_linked = profile.is_unedited if profile else not user.is_admin
    if not may_be_linked:
        matches = ()
    return loaded, DecisionFacts(
        is_deleted=user.deleted_at is not None,
        is_blocked=user.blocked_at is not None,
        is_admin=user.is_admin,
        has_profile=profile is not None,
        is_untouched=bool(matches) and profile is not None and is_untouched(session, profile),
        is_auto_create_on=loaded.is_auto_create_on,
        matches=matches,
    )


def _lock_profile(session: Session, profile: MentoradoRow) -> MentoradoRow:
    # A month that is being saved is either committed before this lock or fails on its foreign key.
    statement = select(*MENTORADO_COLUMNS).where(Mentorado.id == profile.id).with_for_update()
    row: Sequence[Any] | None = session.execute(statement).one_or_none()
    if row is None:
        raise StaleDecisionError(f"mentorado {profile.id} was deleted meanwhile")
    return MentoradoRow(*row)
