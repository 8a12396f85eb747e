"""Queries on users, their identities and profiles, for the sweep, support and the admin console."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    bindparam,
    case,
    false,
    func,
    not_,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from auth.identity import Identity
from models import Mentorado, ProvisioningAttempt, User
from models.columns import SimNao
from models.provisioning_attempt import UNUSABLE_ANSWER, AttemptState
from models.user import Role
from provisioning.attempts import is_due
from provisioning.profiles import find_unlinked_ids
from provisioning.search import SearchTerm


class UserState(enum.StrEnum):
    """The state of a user (docs/reference/contract.md#shapes); the first that applies counts."""

    BLOCKED = "blocked"  # by an admin, by an inactive profile, or with the account deleted
    ADMIN = "admin"
    READY = "ready"
    ATTENTION = "attention"  # the attempt is a dead letter
    PENDING = "pending"  # the background retries
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class ListedUser:
    """A user with their state and, if any, their profile and failed attempt."""

    user: User
    state: UserState
    mentorado: Mentorado | None
    attempt: ProvisioningAttempt | None


def _null_as_false(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return the condition, false where an outer join has found no row."""
    return func.coalesce(condition, false())


IS_INACTIVE_MENTEE = and_(User.role == Role.USER, _null_as_false(Mentorado.ativo == SimNao.NAO))
STATE_CONDITIONS: dict[UserState, ColumnElement[bool]] = {
    UserState.BLOCKED: or_(
        User.blocked_at.is_not(None), User.deleted_at.is_not(None), IS_INACTIVE_MENTEE
    ),
    UserState.ADMIN: User.role == Role.ADMIN,
    UserState.READY: Mentorado.id.is_not(None),
    UserState.ATTENTION: _null_as_false(ProvisioningAttempt.state == AttemptState.DEAD),
    UserState.PENDING: ProvisioningAttempt.id.is_not(None),
    UserState.MISSING: User.id.is_not(None),
}
STATE = case(*((condition, state.value) for state, condition in STATE_CONDITIONS.items()))


def list_users(
    session: Session,
    *,
    state: UserState | None = None,
    search: SearchTerm | None = None,
    after_id: int = 0,
    limit: int,
) -> list[ListedUser]:
    """Return users by id: of one state, or found by a search."""
    found = _all_users().where(User.id > after_id).order_by(User.id).limit(limit)
    if state is not None:
        found = found.where(_is(state))
    if search is not None:
        found = found.where(User.id.in_(search.user_ids(after_id=after_id)))
    return _rows(session, found)


def find_user(session: Session, user_id: int) -> ListedUser | None:
    """Return one user with their state; None for an unknown id."""
    return next(iter(_rows(session, _all_users().where(User.id == user_id))), None)


def _all_users() -> Select[User, str, Mentorado | None, ProvisioningAttempt | None]:
    return (
        select(User, STATE, Mentorado, ProvisioningAttempt)
        .outerjoin(Mentorado, Mentorado.user_id == User.id)
        .outerjoin(ProvisioningAttempt, ProvisioningAttempt.clerk_id == User.clerk_id)
    )


def _rows(
    session: Session,
    found: Select[User, str, Mentorado | None, ProvisioningAttempt | None],
) -> list[ListedUser]:
    return [
        ListedUser(user, UserState(state), mentorado, attempt)
        for user, state, mentorado, attempt in session.execute(found)
    ]


def _is(state: UserState) -> ColumnElement[bool]:
    """SQL condition of a state, as separate conditions instead of the CASE, for the indexes."""
    earlier = list(STATE_CONDITIONS)[: list(STATE_CONDITIONS).index(state)]
    return and_(STATE_CONDITIONS[state], *(not_(STATE_CONDITIONS[other]) for other in earlier))


# Of a user: the identity is incomplete, and access is not denied.
IS_INCOMPLETE = (
    User.identity_completed_at.is_(None),
    User.deleted_at.is_(None),
    User.blocked_at.is_(None),
)
# For the transaction: read the rows in the order of the index. A sort of a million takes a second.
DISABLE_SORT = text("SELECT set_config('enable_sort', 'off', true)")
# Of a user: the identity is complete and may be refreshed (users_refresh_idx).
IS_REFRESHABLE = (
    User.identity_completed_at.is_not(None),
    User.deleted_at.is_(None),
    User.blocked_at.is_(None),
)
LAST_ASKED: ColumnElement[datetime] = func.greatest(
    User.identity_asked_at, User.identity_completed_at
)
LookupPosition = tuple[datetime, int]  # when last asked about, and the user's id


@dataclass(frozen=True, slots=True)
class KnownIdentity:
    """The stored identity of a user."""

    clerk_id: str
    name: str | None
    email: str | None
    email_verified: bool
    image_url: str | None
    blocked_at: datetime | None
    deleted_at: datetime | None
    identity_as_of: datetime | None
    identity_completed_at: datetime | None
    identity_asked_at: datetime | None

    def is_changed_by(self, new: Identity) -> bool:
        """Whether the provider's answer differs from the stored identity and is not older."""
        if self.identity_completed_at is None:
            return True
        is_older = (
            new.as_of is not None
            and self.identity_as_of is not None
            and new.as_of < self.identity_as_of
        )
        if is_older or new.is_unknown:
            return False
        is_new_text = any(
            text is not None and text != old
            for text, old in ((new.name, self.name), (new.image_url, self.image_url))
        )
        is_new_address = new.email is not None and new.email != self.email
        return is_new_text or is_new_address or bool(new.email_verified) != self.email_verified


# Columns of the table instead of the model: the ORM takes as long as the database for one row.
KNOWN_COLUMNS = [User.__table__.c[name] for name in KnownIdentity.__dataclass_fields__]
KNOWN_IDENTITY = select(*KNOWN_COLUMNS).where(User.__table__.c.clerk_id == bindparam("clerk_id"))


def known_identity(session: Session, clerk_id: str) -> KnownIdentity | None:
    """Return the stored identity of one user, without a lock; None for an unknown user."""
    values = {"clerk_id": clerk_id}
    row = session.connection().execute(KNOWN_IDENTITY, values).one_or_none()
    return None if row is None else KnownIdentity(*row)


def known_identities(session: Session, clerk_ids: Sequence[str]) -> dict[str, KnownIdentity]:
    """Return the stored identities of several users, by Clerk id."""
    rows = session.execute(select(*KNOWN_COLUMNS).where(User.clerk_id.in_(clerk_ids)))
    return {known.clerk_id: known for known in (KnownIdentity(*row) for row in rows)}


def claim_identity_lookup(
    session: Session, clerk_id: str, last_asked_at: datetime | None, now: datetime
) -> bool:
    """Claim a lookup of the user for the caller; return False if another caller was faster.

    `last_asked_at` is the value of `identity_asked_at` that the caller has read.
    """
    claimed = (
        update(User)
        .where(
            User.clerk_id == clerk_id,
            User.identity_asked_at.is_not_distinct_from(last_asked_at),
        )
        .values(identity_asked_at=now)
        .returning(User.id)
    )
    return session.scalars(claimed).one_or_none() is not None


def mark_identity_unchanged(session: Session, clerk_ids: Sequence[str], now: datetime) -> None:
    """Mark the identities of these users as complete at `now`, without a change."""
    session.execute(
        update(User)
        .where(User.clerk_id.in_(clerk_ids))
        .values(identity_completed_at=now)
        .execution_options(synchronize_session=False)
    )


def mark_identity_incomplete(session: Session, clerk_id: str) -> None:
    """Mark the identity of this user as incomplete, so that the sweep looks it up."""
    session.execute(
        update(User).where(User.clerk_id == clerk_id).values(identity_completed_at=None)
    )


def mark_identity_asked(session: Session, clerk_id: str, now: datetime) -> None:
    """Store the time of the last lookup of this user, so that the sweep looks others up first."""
    session.execute(update(User).where(User.clerk_id == clerk_id).values(identity_asked_at=now))


def incomplete_users(session: Session, now: datetime | None, limit: int) -> list[str]:
    """Return Clerk ids of users with an incomplete identity, those never looked up first.

    Users with a failed attempt of their profile are excluded: the attempt is retried. Users whose
    answer was unusable are included once that attempt is due; without `now`, at any time.
    """
    session.execute(DISABLE_SORT)
    record = ProvisioningAttempt
    is_about_identity = record.error_class == UNUSABLE_ANSWER
    incomplete = (
        select(User.clerk_id)
        .outerjoin(record, record.clerk_id == User.clerk_id)
        .where(*IS_INCOMPLETE, or_(record.id.is_(None), and_(is_about_identity, *is_due(now))))
        .order_by(User.identity_asked_at.nulls_first(), User.id.desc())
    )
    return list(session.scalars(incomplete.limit(limit)))


def users_to_refresh(
    session: Session,
    *,
    before: datetime,
    seen_after: datetime,
    after: LookupPosition | None,
    limit: int,
) -> tuple[list[str], LookupPosition | None]:
    """Return Clerk ids of users to look up again, and the position to continue from.

    The next `limit` rows in the order of the last lookup are read; the position is None at the end.
    Returned are users who were last looked up or completed at `before` or earlier, and who visited
    at `seen_after` or later. An index has this order, so that a call reads at most `limit` rows and
    sorts none.
    """
    session.execute(DISABLE_SORT)
    position = (LAST_ASKED, User.id)
    rows = [*IS_REFRESHABLE, before >= LAST_ASKED]
    if after is not None:
        rows.append(tuple_(*position) > tuple_(*after))
    last = select(*position).where(*rows).order_by(*position).offset(limit - 1).limit(1)
    end = session.execute(last).one_or_none()
    if end is not None:
        rows.append(tuple_(*position) <= tuple_(*end))
    seen = select(User.clerk_id).where(*rows, User.last_signed_in >= seen_after)
    return list(session.scalars(seen.order_by(*position))), (end and (end[0], end[1]))


def record_user(session: Session, identity: Identity, now: datetime) -> None:
    """Insert a user whose ensure call failed, so that support finds them.

    A stored user is not changed.
    """
    statement = insert(User).values(
        clerk_id=identity.clerk_id,
        name=identity.name,
        email=identity.email,
        email_verified=bool(identity.email_verified),
        image_url=identity.image_url,
        login_method=identity.login_method,
        created_at=now,
        updated_at=now,
        last_signed_in=now,
    )
    session.execute(statement.on_conflict_do_nothing(index_elements=[User.clerk_id]))


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Facts about one user's profile; matches count only for a verified address.

    `is_known` is False for a user who is not stored; then only `pending_attempt` can be true.
    """

    is_known: bool = True
    linked: bool = False
    unlinked_match: bool = False
    multiple_matches: bool = False
    pending_attempt: bool = False
    has_email: bool = False
    email_verified: bool = False


def diagnose(session: Session, clerk_id: str) -> Diagnosis:
    """Return the facts about one user; reads only. A user may have an attempt without a row."""
    user = session.scalars(select(User).where(User.clerk_id == clerk_id)).one_or_none()
    attempt = session.scalars(
        select(ProvisioningAttempt.state).where(ProvisioningAttempt.clerk_id == clerk_id)
    )
    is_pending = attempt.one_or_none() == AttemptState.PENDING
    if user is None:
        return Diagnosis(is_known=False, pending_attempt=is_pending)
    matches = find_unlinked_ids(session, user.email) if user.email and user.email_verified else ()
    profile = session.scalars(select(Mentorado.id).where(Mentorado.user_id == user.id))
    return Diagnosis(
        linked=profile.one_or_none() is not None,
        unlinked_match=bool(matches),
        multiple_matches=len(matches) > 1,
        pending_attempt=is_pending,
        has_email=user.email is not None,
        email_verified=user.email_verified,
    )


class MenteeKind(enum.StrEnum):
    """Filters for the list of profiles."""

    ACTIVE = "ativos"
    INACTIVE = "inativos"
    UNLINKED = "esperando"  # unlinked
    AMBIGUOUS = "repetidos"  # unlinked, with the address of another unlinked one


_OTHER = aliased(Mentorado)
_HAS_TWIN = (
    select(_OTHER.id)
    .where(
        _OTHER.user_id.is_(None),
        _OTHER.id != Mentorado.id,
        func.normalized_address(_OTHER.email) == func.normalized_address(Mentorado.email),
    )
    .exists()
)
KINDS: dict[MenteeKind, ColumnElement[bool]] = {
    MenteeKind.ACTIVE: Mentorado.ativo == SimNao.SIM,
    MenteeKind.INACTIVE: Mentorado.ativo == SimNao.NAO,
    MenteeKind.UNLINKED: Mentorado.user_id.is_(None),
    MenteeKind.AMBIGUOUS: and_(Mentorado.user_id.is_(None), _HAS_TWIN),
}


def list_mentees(
    session: Session,
    *,
    kind: MenteeKind | None = None,
    search: SearchTerm | None = None,
    after_id: int = 0,
    limit: int,
) -> list[Mentorado]:
    """Return profiles by id: of one kind, or found by a search."""
    found = select(Mentorado).where(Mentorado.id > after_id).order_by(Mentorado.id).limit(limit)
    if kind is not None:
        found = found.where(KINDS[kind])
    if search is not None:
        found = found.where(Mentorado.id.in_(search.profile_ids(after_id=after_id)))
    return list(session.scalars(found))
