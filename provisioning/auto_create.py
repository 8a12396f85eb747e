"""The stored switch that allows or forbids automatic profiles, in every process at once."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models import AppSetting
from provisioning import audit
from provisioning.audit import Source
from provisioning.profiles import AUTO_CREATE
from provisioning.rules import Rules

STORED_VALUE = select(AppSetting.value).where(AppSetting.key == AUTO_CREATE)


def is_enabled(session: Session) -> bool:
    """Whether the stored switch is on; it is unless an admin has turned it off."""
    return session.scalars(STORED_VALUE).one_or_none() is not False


def may_create(session: Session, rules: Rules) -> bool:
    """Whether a user without a pre-registered profile gets one, by settings and stored switch."""
    return rules.auto_create and not rules.invited_only and is_enabled(session)


def set_enabled(session: Session, *, on: bool, source: Source, now: datetime) -> None:
    """Turn the switch on or off.

    It holds at once: the requests of a user without profile read the database each time.
    """
    values = {"value": on, "updated_at": now, "updated_by": source.actor_id}
    session.execute(
        insert(AppSetting)
        .values(key=AUTO_CREATE, **values)
        .on_conflict_do_update(index_elements=[AppSetting.key], set_=values)
    )
    audit.record(session, source, "auto_create_changed", details={"enabled": on})
