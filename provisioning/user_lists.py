"""Lists of users and profiles, the state of a user, and a diagnosis for support."""

import enum
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, and_, case, false, func, not_, or_, select
from sqlalchemy.orm import Session, aliased

from models import Mentorado, ProvisioningAttempt, User
from models.columns import SimNao
from models.provisioning_attempt import AttemptState
from models.user import Role
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
