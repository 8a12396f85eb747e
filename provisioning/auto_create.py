"""The stored kill switch: whether profiles are made automatically, everywhere and at once."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models import AppSetting
from provisioning import audit
from provisioning.audit import Source
from provisioning.profiles import AUTO_CREATE
from provisioning.rules import Rules


def is_enabled(session: Session) -> bool:
    """What is stored; on until somebody has turned it off."""
    stored = session.scalars(select(AppSetting.value).where(AppSetting.key == AUTO_CREATE))
    return stored.one_or_none() is not False


def may_create(session: Session, rules: Rules) -> bool:
    """Whether somebody for whom nothing waits gets a profile: the settings and what is stored."""
    return rules.auto_create and not rules.invited_only and is_enabled(session)


def set_enabled(session: Session, *, on: bool, source: Source, now: datetime) -> None:
    """Turn it; who has no profile is looked after in the database at every request, so it holds."""
    values = {"value": on, "updated_at": now, "updated_by": source.actor_id}
    session.execute(
        insert(AppSetting)
        .values(key=AUTO_CREATE, **values)
        .on_conflict_do_update(index_elements=[AppSetting.key], set_=values)
    )
    audit.record(session, source, "auto_create_changed", details={"enabled": on})
