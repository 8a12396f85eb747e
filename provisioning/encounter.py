"""Meeting a person: written down, held still and known, in one message to the database."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Column, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session
from sqlalchemy.types import Integer

from models import AppSetting
from provisioning.identity import Identity
from provisioning.linking import Rules
from provisioning.people import UPSERT, written
from provisioning.rows import (
    MENTORADO_COLUMNS,
    USER_COLUMNS,
    Columns,
    MentoradoRow,
    UserRow,
    mentorado_of,
    user_of,
)
from provisioning.waiting import ADDRESS_LOCKS, AUTO_CREATE


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


def _listed(table: str, columns: Columns) -> str:
    return ", ".join(f"{table}.{column.name}" for column in columns)


WHO = """
      FROM users AS person LEFT JOIN mentorados AS profile ON profile.user_id = person.id
"""
FACTS = f"""
    SELECT {_listed("person", USER_COLUMNS)}, {_listed("profile", MENTORADO_COLUMNS)},
           (SELECT value FROM app_settings WHERE key = '{AUTO_CREATE}'),
           ARRAY(SELECT waiting.id FROM mentorados AS waiting
                  WHERE waiting.user_id IS NULL AND person.email_verified AND person.email <> ''
                    AND normalized_address(waiting.email) = normalized_address(person.email)
                  ORDER BY waiting.id LIMIT 2)
    {WHO} WHERE person.clerk_id = :clerk_id
"""  # noqa: S608 - built from constants alone, as the next
# Only where a waiting profile could still become theirs: there is none of their own, or one that
# could make room. Whoever locks people's rows as well does so before, and profiles after.
TURN = f"""
    SELECT pg_advisory_xact_lock({ADDRESS_LOCKS}, hashtext(normalized_address(person.email)))
    {WHO} WHERE person.clerk_id = :clerk_id AND person.email_verified AND person.email <> ''
            AND (profile.id IS NULL
                 OR (profile.created_automatically AND profile.edited_at IS NULL))
"""
COLUMNS = (
    *USER_COLUMNS,
    *MENTORADO_COLUMNS,
    AppSetting.__table__.c.value,
    Column("matches", ARRAY(Integer)),
)
GLIMPSE = text(FACTS).columns(*COLUMNS)
# Several statements, each of which sees what was committed before it began.
MEETING = text(f"{UPSERT}; {TURN}; {FACTS}").columns(*COLUMNS)


def meet(session: Session, identity: Identity, *, signs_in: bool, now: datetime) -> Encounter:
    """Store what the identity knows and learn how the person stands, in one round trip.

    Until the commit their row is locked, so that calls for one person queue up, and where a waiting
    profile may become theirs they have the turn of their address: others of it, and whoever
    pre-registers it, wait.
    """
    session.flush()  # what the caller has changed counts as well, and text does not see to it
    values = written(identity, signs_in=signs_in, now=now)
    return _encounter(session.execute(MEETING, values).one())


def glimpse(session: Session, clerk_id: str) -> Encounter:
    """How a known person stands just now; writes nothing, locks nothing and waits for nobody.

    Raises NoResultFound for a person who is not known.
    """
    session.flush()  # as above
    return _encounter(session.execute(GLIMPSE, {"clerk_id": clerk_id}).one())


def _encounter(row: Sequence[Any]) -> Encounter:
    user, (*profile, switch, matches) = row[: len(USER_COLUMNS)], row[len(USER_COLUMNS) :]
    owned = mentorado_of(profile) if profile[0] is not None else None
    return Encounter(user_of(user), owned, switch is not False, tuple(matches))
