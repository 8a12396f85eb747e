"""Meeting a person: written down, held still and known, in one message to the database."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Column, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session
from sqlalchemy.types import Integer

from models import AppSetting, Mentorado, User
from provisioning.identity import Identity
from provisioning.linking import Rules
from provisioning.rows import (
    MENTORADO_COLUMNS,
    USER_COLUMNS,
    MentoradoRow,
    UserRow,
    mentorado_of,
    user_of,
)
from provisioning.waiting import ADDRESS_LOCKS, AUTO_CREATE, waiting_for


@dataclass(frozen=True, slots=True)
class Encounter:
    """A person as they stand: their own profile, whether the stored switch lets one be created, and
    at most two ids of profiles that nobody owns and that have the person's *verified* address.
    """

    user: UserRow
    profile: MentoradoRow | None
    is_switched_on: bool
    matches: tuple[int, ...]

    def under(self, rules: Rules) -> Rules:
        """The rules as the stored switch leaves them."""
        return replace(rules, auto_create=rules.auto_create and self.is_switched_on)


COLUMNS = (
    *USER_COLUMNS,
    *MENTORADO_COLUMNS,
    AppSetting.__table__.c.value,
    Column("matches", ARRAY(Integer)),
)
# The function is of migration 0010, where every rule of what is stored stands.
MEETING = text(f"""
    SELECT {", ".join(f"(met.person).{column.name}" for column in USER_COLUMNS)},
           {", ".join(f"(met.profile).{column.name}" for column in MENTORADO_COLUMNS)},
           met.switch, met.matches
      FROM meet_person(:clerk_id, :name, :email, :email_verified, :image_url, :login_method,
                       :is_complete, :as_of, :signs_in, :now,
                       {ADDRESS_LOCKS}, '{AUTO_CREATE}') AS met
""").columns(*COLUMNS)  # noqa: S608 - names of columns, and constants
TOLD = [field.name for field in fields(Identity)]
GLIMPSE = (
    select(*USER_COLUMNS, *MENTORADO_COLUMNS, AppSetting.value)
    .select_from(User)
    .outerjoin(Mentorado, Mentorado.user_id == User.id)
    .outerjoin(AppSetting, AppSetting.key == AUTO_CREATE)
    .where(User.clerk_id == bindparam("clerk_id"))
)


def meet(session: Session, identity: Identity, *, signs_in: bool, now: datetime) -> Encounter:
    """Store what the identity knows and learn how the person stands, in one round trip.

    Until the commit their row is locked, so that calls for one person queue up, and where a waiting
    profile may become theirs they have the turn of their address: others of it, and whoever
    pre-registers it, wait.
    """
    session.flush()  # what the caller has changed counts as well, and text does not see to it
    told = {name: getattr(identity, name) for name in TOLD}
    values = {**told, "signs_in": signs_in, "now": now}
    return _encounter(session.connection().execute(MEETING, values).one())


def remember(session: Session, identity: Identity, *, signs_in: bool, now: datetime) -> User:
    """Store what the identity knows and return the person's row, locked as by `meet`."""
    met = meet(session, identity, signs_in=signs_in, now=now)
    return session.get_one(User, met.user.id, populate_existing=True)


def glimpse(session: Session, clerk_id: str) -> Encounter:
    """How a known person stands just now; writes nothing, locks nothing and waits for nobody.

    Raises NoResultFound for a person who is not known.
    """
    session.flush()  # as above
    row = session.execute(GLIMPSE, {"clerk_id": clerk_id}).one()
    seen = _encounter([*row, ()])
    is_proven = seen.user.email_verified and seen.user.email
    return replace(seen, matches=waiting_for(session, str(seen.user.email)) if is_proven else ())


def _encounter(row: Sequence[Any]) -> Encounter:
    user, (*profile, switch, matches) = row[: len(USER_COLUMNS)], row[len(USER_COLUMNS) :]
    owned = mentorado_of(profile) if profile[0] is not None else None
    return Encounter(user_of(user), owned, switch is not False, tuple(matches))
