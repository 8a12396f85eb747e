"""A row of users and a row of mentorados as values: read once, and followed by no session."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, cast

from sqlalchemy import (
    CTE,
    ColumnElement,
    Select,
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
)
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql.elements import KeyedColumnElement

from auth.identity import NAME_LENGTH, URL_LENGTH
from models import Mentorado, User
from models.columns import SimNao
from models.mentorado import Turma
from models.user import Role
from provisioning import audit
from provisioning.audit import Source
from provisioning.references import is_referenced

Columns = Sequence[KeyedColumnElement[Any]]


@dataclass(frozen=True, slots=True)
class UserRow:
    """What the guarantee has to know of a person; the names are those of the columns."""

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
    identity_completed_at: datetime | None
    identity_asked_at: datetime | None
    context_version: int

    @property
    def is_admin(self) -> bool:
        """Whether the administration is open to this person."""
        return self.role is Role.ADMIN


@dataclass(frozen=True, slots=True)
class MentoradoRow:
    """What requests have to know of a profile; the names are those of the columns."""

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
        """Whether the programme still counts this mentee in."""
        return self.ativo is SimNao.SIM

    @property
    def is_unedited(self) -> bool:
        """Whether only the guarantee has written this row so far."""
        return self.created_automatically and self.edited_at is None


def user_row(row: Sequence[Any]) -> UserRow:
    """A row of `USER_COLUMNS`."""
    return UserRow(*row)


def mentorado_row(row: Sequence[Any]) -> MentoradoRow:
    """A row of `MENTORADO_COLUMNS`."""
    return MentoradoRow(*row)


USER_COLUMNS: Columns = [User.__table__.c[field.name] for field in fields(UserRow)]
MENTORADO_COLUMNS: Columns = [Mentorado.__table__.c[field.name] for field in fields(MentoradoRow)]


AUTO_CREATE = "auto_create"  # key of the stored kill switch in app_settings
CHOICES = 20  # of one address; more would be a mistake of another kind
ADDRESS_LOCKS = 20_251  # first half of the advisory keys that stand for an address


# Keys are sorted before the first of them is locked: two transactions never wait in a circle.
LOCK_ADDRESSES = text("""
    WITH keys AS MATERIALIZED (
        SELECT DISTINCT hashtext(normalized_address(address)) AS key
          FROM unnest(CAST(:addresses AS text[])) AS address
         WHERE normalized_address(address) IS NOT NULL
         ORDER BY key)
    SELECT count(pg_advisory_xact_lock(:locks, key)::text) FROM keys
""")


Unlinked = aliased(Mentorado)  # a profile without owner
# Of a user: neither an admin nor denied.
SHOULD_HAVE_PROFILE = (
    User.role == Role.USER,
    User.blocked_at.is_(None),
    User.deleted_at.is_(None),
)


def lock_addresses(session: Session, addresses: Collection[str]) -> None:
    """Exclude pre-registrations and logins of these addresses until the commit.

    A lock of the transaction, not of the session, so that a pooler may sit between. Users' rows are
    locked before, profiles after: in one order no two transactions wait for each other.
    """
    if addresses:
        session.execute(LOCK_ADDRESSES, {"locks": ADDRESS_LOCKS, "addresses": list(addresses)})


def unlinked_profiles(session: Session, address: str) -> tuple[int, ...]:
    """Ids of at most two profiles that nobody owns and that have this address."""
    same_address = func.normalized_address(Mentorado.email) == func.normalized_address(address)
    unlinked = select(Mentorado.id).where(Mentorado.user_id.is_(None), same_address)
    return tuple(session.scalars(unlinked.order_by(Mentorado.id).limit(2)))


def waiting_profiles(session: Session, address: str) -> list[Mentorado]:
    """All profiles that nobody owns and that have this address, for somebody to choose from."""
    same_address = func.normalized_address(Mentorado.email) == func.normalized_address(address)
    unlinked = select(Mentorado).where(Mentorado.user_id.is_(None), same_address)
    return list(session.scalars(unlinked.order_by(Mentorado.id).limit(CHOICES)))


def has_unlinked_match() -> ColumnElement[bool]:
    """Whether a profile without owner has their proven address."""
    waits = exists().where(
        Unlinked.user_id.is_(None),
        func.normalized_address(Unlinked.email) == func.normalized_address(User.email),
    )
    return and_(User.email_verified, waits)


def is_untouched(session: Session, profile: Mentorado | MentoradoRow) -> bool:
    """Whether the profile was made automatically, no person edited it and nothing refers to it."""
    return profile.is_unedited and not is_referenced(session, profile.id)


NAMELESS = "Novo Usuário"


def automatic_profiles(people: CTE | Subquery) -> Insert:
    """Insert a profile for each of these rows of users; whoever has one by now keeps it."""
    return new_profiles(people).on_conflict_do_nothing(index_elements=["user_id"])


def new_profiles(people: CTE | Subquery) -> Insert:
    """Insert a profile for each of these rows of users; fails for all if one of them has one.

    `people` has the columns `id name email image_url`. Goals are the table's defaults, over-long
    values are cut or dropped (CONTRACT section 4.4).
    """
    of = people.c
    values: dict[str, Any] = {
        "user_id": of.id,
        "nome_completo": func.left(func.coalesce(func.nullif(of.name, ""), NAMELESS), NAME_LENGTH),
        "email": of.email,
        "foto_url": case((func.length(of.image_url) <= URL_LENGTH, of.image_url)),
        "turma": literal(Turma.NEON, Mentorado.turma.type),
        "created_automatically": true(),
    }
    chosen = people.select().with_only_columns(*values.values())
    return insert(cast(Table, Mentorado.__table__)).from_select(list(values), chosen)


def insert_automatic_profile(session: Session, user_id: int, source: Source) -> MentoradoRow | None:
    """Give a person an automatic profile and record it, in one round trip; None for whoever has a
    profile by now.
    """
    values = audit.values_of(source, "mentorado_created") | {"of_user": user_id}
    row = session.connection().execute(CREATE, values).one_or_none()
    return None if row is None else mentorado_row(row)


def fill_gaps(profile: MentoradoRow, user: UserRow) -> dict[str, str]:
    """What an automatic profile lacks because its person's identity did not tell it at first, and
    has told since; empty where there is nothing to be filled in.
    """
    filled: dict[str, str] = {}
    if profile.nome_completo == NAMELESS and user.name:
        filled["nome_completo"] = user.name[:NAME_LENGTH]
    if profile.email is None and user.email is not None:
        filled["email"] = user.email
    if profile.foto_url is None and 0 < len(user.image_url or "") <= URL_LENGTH:
        filled["foto_url"] = str(user.image_url)
    return filled


def _create() -> Select[Any]:
    # Of tables, not of objects: whatever is mapped would be looked after at every call.
    users = User.__table__
    them = select(users).where(users.c.id == bindparam("of_user")).subquery()
    made = automatic_profiles(them).returning(*MENTORADO_COLUMNS).cte("made")
    recorded = audit.record_of(made, audit.BOUND).cte("recorded")
    return select(made).add_cte(recorded)


CREATE = _create()
