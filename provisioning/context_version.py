"""Read and increment the versions of users' request contexts.

Triggers increment them as well (migration 0012).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from models import User

_columns = User.__table__.c  # of the table: the ORM takes as long as the database for one value
READ_VERSION = select(_columns.context_version).where(_columns.clerk_id == bindparam("clerk_id"))


@dataclass(frozen=True, slots=True)
class UserVersion:
    """A user by both ids, and the version of their request context."""

    user_id: int
    clerk_id: str
    version: int


def read_version(session: Session, clerk_id: str) -> int | None:
    """Return the version of one user, by one indexed read; None for an unknown user."""
    values = {"clerk_id": clerk_id}
    version: int | None = session.connection().execute(READ_VERSION, values).scalar_one_or_none()
    return version


def read_versions(session: Session, clerk_ids: Sequence[str]) -> list[UserVersion]:
    """Return the versions of these users; unknown ones are missing."""
    found = select(User.id, User.clerk_id, User.context_version)
    rows = session.execute(found.where(User.clerk_id.in_(clerk_ids)))
    return [UserVersion(*row) for row in rows]


def increment_versions(session: Session, user_ids: Iterable[int]) -> None:
    """Invalidate the cached contexts of users whose own rows do not change.

    Needed where these users may now claim another profile. Their rows are locked in the order of
    ids.
    """
    ids = sorted(user_ids)
    if ids:
        session.execute(select(User.id).where(User.id.in_(ids)).order_by(User.id).with_for_update())
        session.execute(
            update(User)
            .where(User.id.in_(ids))
            .values(context_version=User.context_version + 1)
            .execution_options(synchronize_session=False)
        )
