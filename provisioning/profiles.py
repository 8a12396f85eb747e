"""Users and profiles as values without a session, matching, automatic profiles, versions."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, cast

from sqlalchemy import (
    CTE,
    ColumnElement,
    Subquery,
    Table,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql.elements import KeyedColumnElement

from auth.identity import NAME_LENGTH, URL_LENGTH
from models import Mentorado, User
from models.people import Role, SimNao, Turma
from provisioning import audit
from provisioning.references import is_referenced

Columns = Sequence[KeyedColumnElement[Any]]


@dataclass(frozen=True, slots=True)
class UserRow:
    """The columns of a user that provisioning needs, under their names in the table."""

    id: int
    clerk_id: str
    name: str | None
    email: str | None
    email_verified: bool
    image_url: str | None
    role: Role
    admin_by_address: bool
    blocked_at: datetime | None
    deleted_at: datetime | None
    identity_as_of: datetime | None
    identity_completed_at: datetime | None
    identity_asked_at: datetime | None
    context_version: int

    @property
    def is_admin(self) -> bool:
        """Whether the user has the admin role."""
        return self.role is Role.ADMIN


@dataclass(frozen=True, slots=True)
class MentoradoRow:
    """The columns of a profile that requests need, under their names in the table."""

    id: int
    user_id: int | None
    nome_completo: str
    email: str | None
    foto_url: str | None
    turma: Turma
    meta_faturamento: int
    meta_leads: int | None
    meta_procedimentos: int | None
    meta_posts: int | None
    meta_stories: int | None
    ativo: SimNao
    onboarding_completed: SimNao
    created_automatically: bool
    edited_at: datetime | None
    created_at: datetime

    @property
    def is_active(self) -> bool:
        """Whether the mentee is active in the programme."""
        return self.ativo is SimNao.SIM

    @property
    def is_unedited(self) -> bool:
        """Whether the profile was created automatically and never edited."""
        return self.created_automatically and self.edited_at is None


USER_COLUMNS: Columns = [User.__table__.c[field.name] for field in fields(UserRow)]
MENTORADO_COLUMNS: Columns = [Mentorado.__table__.c[field.name] for field in fields(MentoradoRow)]


AUTO_CREATE = "auto_create"  # key of the stored switch in app_settings
MAX_CHOICES = 20  # unlinked profiles of one address that an admin chooses from
ADDRESS_LOCKS = 20_251  # first half of the advisory lock keys of addresses


# Keys are sorted before the first is locked, so that two transactions never deadlock.
LOCK_ADDRESSES = text("""
    WITH keys AS MATERIALIZED (
        SELECT DISTINCT hashtext(normalized_address(address)) AS key
          FROM unnest(CAST(:addresses AS text[])) AS address
         WHERE normalized_address(address) IS NOT NULL
         ORDER BY key)
    SELECT count(pg_advisory_xact_lock(:locks, key)::text) FROM keys
""")


Unlinked = aliased(Mentorado)  # a profile without owner
# Of a user: access is not denied; and neither an admin nor denied.
IS_NOT_DENIED = (User.blocked_at.is_(None), User.deleted_at.is_(None))
SHOULD_HAVE_PROFILE = (User.role == Role.USER, *IS_NOT_DENIED)


def lock_addresses(session: Session, addresses: Collection[str]) -> None:
    """Exclude pre-registrations and logins of these addresses until the commit.

    The locks belong to the transaction, not to the session, so that a pooler works. Users' rows are
    locked before and profiles after: one order prevents deadlocks.
    """
    if addresses:
        session.execute(LOCK_ADDRESSES, {"locks": ADDRESS_LOCKS, "addresses": list(addresses)})


def find_unlinked_ids(session: Session, address: str) -> tuple[int, ...]:
    """Return the ids of at most two unlinked profiles with this address."""
    unlinked = select(Mentorado.id).where(*_is_unlinked(address))
    return tuple(session.scalars(unlinked.order_by(Mentorado.id).limit(2)))


def list_unlinked_profiles(session: Session, address: str) -> list[Mentorado]:
    """Return the unlinked profiles with this address, for an admin to choose from."""
    unlinked = select(Mentorado).where(*_is_unlinked(address))
    return list(session.scalars(unlinked.order_by(Mentorado.id).limit(MAX_CHOICES)))


def _is_unlinked(address: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    same_address = func.normalized_address(Mentorado.email) == func.normalized_address(address)
    return Mentorado.user_id.is_(None), same_address


def has_unlinked_match() -> ColumnElement[bool]:
    """SQL condition of a user: an unlinked profile has their verified address."""
    has_match = exists().where(
        Unlinked.user_id.is_(None),
        func.normalized_address(Unlinked.email) == func.normalized_address(User.email),
    )
    return and_(User.email_verified, has_match)


def is_untouched(session: Session, profile: Mentorado | MentoradoRow) -> bool:
    """Whether the profile is automatic, unedited and unreferenced."""
    return profile.is_unedited and not is_referenced(session, profile.id)


DEFAULT_NAME = "Novo Usuário"


def insert_missing_profiles(users: CTE | Subquery) -> Insert:
    """Return an INSERT of a profile for each of these rows of users; skips users who have one."""
    return insert_profiles(users).on_conflict_do_nothing(index_elements=["user_id"])


def insert_profiles(users: CTE | Subquery) -> Insert:
    """Return an INSERT of a profile for each of these rows of users; fails if one of them has one.

    `users` has the columns `id name email image_url`. Goals are the table's defaults; over-long
    values are cut or dropped (docs/reference/contract.md#shapes).
    """
    columns = users.c
    values: dict[str, Any] = {
        "user_id": columns.id,
        "nome_completo": func.left(
            func.coalesce(func.nullif(columns.name, ""), DEFAULT_NAME), NAME_LENGTH
        ),
        "email": columns.email,
        "foto_url": case((func.length(columns.image_url) <= URL_LENGTH, columns.image_url)),
        "turma": literal(Turma.NEON, Mentorado.turma.type),
        "created_automatically": true(),
    }
    rows = users.select().with_only_columns(*values.values())
    return insert(cast(Table, Mentorado.__table__)).from_select(list(values), rows)


# An automatic profile and its audit event in one round trip; no row where the user has a profile
# by now. From tables instead of mapped classes, which cost the ORM's work at every call.
_users = User.__table__
_user = select(_users).where(_users.c.id == bindparam("of_user")).subquery()
_created = insert_missing_profiles(_user).returning(*MENTORADO_COLUMNS).cte("created")
_recorded = audit.insert_events_of(_created, audit.VALUE_PARAMETERS).cte("recorded")
INSERT_WITH_EVENT = select(_created).add_cte(_recorded)

READ_VERSION = select(_users.c.context_version).where(_users.c.clerk_id == bindparam("clerk_id"))


def read_version(session: Session, clerk_id: str) -> int | None:
    """Return the version of a user's request context, by one indexed read; None if unknown."""
    values = {"clerk_id": clerk_id}
    version: int | None = session.connection().execute(READ_VERSION, values).scalar_one_or_none()
    return version


def increment_versions(session: Session, user_ids: Iterable[int]) -> None:
    """Invalidate the cached contexts of users whose own rows do not change.

    Needed where these users may now claim another profile; for changed rows triggers do it
    (migration 0012). Their rows are locked in the order of ids.
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
