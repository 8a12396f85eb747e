"""Lists of users and profiles, their search, the state of a user, and a diagnosis for support.

A search finds users and profiles by name, address, number, Clerk id or reference code. All its
conditions are answered by indexes (migration 0020). Words are compared without accents and case, in
any order and by their beginnings; see docs/decisions/031-search-by-words.md.
"""

import enum
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    and_,
    case,
    exists,
    false,
    func,
    not_,
    or_,
    select,
    union,
)
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from core.email_address import normalize_address
from models import AuditEvent, Mentorado, ProvisioningAttempt, User
from models.background import AttemptState
from models.people import Role, SimNao
from provisioning.profiles import find_unlinked_ids

CODE_LENGTH = 8  # characters of a reference code that suffice to find it
MAX_NUMBER = 2_147_483_647
# The condition of mentorados_search_idx: other profiles are found by their user's name and address.
HAS_OWN_WORDS = or_(Mentorado.user_id.is_(None), not_(Mentorado.is_unedited))
# The conditions of the two indexes of the profiles' addresses.
ADDRESS_CONDITIONS = (
    Mentorado.user_id.is_(None),
    and_(Mentorado.user_id.is_not(None), not_(Mentorado.is_unedited)),
)
MOST_MATCHES = 1_000  # of one condition: a word of most addresses must not read the whole table


@dataclass(frozen=True, slots=True)
class SearchTerm:
    """A text that an admin has typed, and the Clerk id of the user who was shown it as a code."""

    text: str
    shown_to: str | None = None

    @property
    def number(self) -> int | None:
        """The text as the number of an account or a profile: «17» or «nº 17»."""
        digits = self.text.lower().removeprefix("nº").strip()
        is_number = digits.isascii() and digits.isdecimal() and len(digits) <= len(str(MAX_NUMBER))
        return int(digits) if is_number and int(digits) <= MAX_NUMBER else None

    def user_ids(self, *, after_id: int = 0) -> CompoundSelect[int]:
        """Return a query of the first ids after `after_id` of users that match, also by profile."""
        attempts = select(ProvisioningAttempt.clerk_id).where(
            self._is_code(ProvisioningAttempt.request_id)
        )
        conditions = [
            *self._matches(User.name, User.email),
            User.clerk_id.in_({self.text, self.shown_to or self.text}),
            User.clerk_id.in_(attempts),
            User.id.in_(select(AuditEvent.user_id).where(self._is_code(AuditEvent.request_id))),
        ]
        if self.number is not None:
            conditions.append(User.id == self.number)
        return union(
            *(_first(User.id, condition, after_id) for condition in conditions),
            *(_first(Mentorado.user_id, each, after_id) for each in self._profile_conditions()),
        )

    def profile_ids(self, *, after_id: int = 0) -> CompoundSelect[int]:
        """Return a query of the ids of matching profiles, as `user_ids`."""
        words, *_ = self._matches(User.name, User.email)
        users = select(User.id).where(words).limit(MOST_MATCHES)
        conditions = [*self._profile_conditions(), Mentorado.user_id.in_(users)]
        if self.number is not None:
            conditions.append(Mentorado.id == self.number)
        return union(*(_first(Mentorado.id, condition, after_id) for condition in conditions))

    def _profile_conditions(self) -> list[ColumnElement[bool]]:
        """Return a condition for each index of the profiles' names and addresses."""
        words, *address = self._matches(Mentorado.nome_completo, Mentorado.email)
        of_address = [and_(index, *address) for index in ADDRESS_CONDITIONS if address]
        return [and_(HAS_OWN_WORDS, words), *of_address]

    def _matches(
        self, name: InstrumentedAttribute[Any], email: InstrumentedAttribute[Any]
    ) -> list[ColumnElement[bool]]:
        """Return the condition for the words and, if it is an address, for any spelling of it."""
        words = func.search_words(name, email).op("@@")(func.search_query(self.text))
        is_address = func.normalized_address(email) == normalize_address(self.text)
        return [words, is_address] if "@" in self.text else [words]

    def _is_code(self, column: InstrumentedAttribute[Any]) -> ColumnElement[bool]:
        """Whether the text is this reference code, or at least its first eight characters."""
        return and_(
            func.left(column, CODE_LENGTH) == self.text[:CODE_LENGTH],
            func.starts_with(column, self.text),
        )


def _first(
    column: InstrumentedAttribute[Any], condition: ColumnElement[bool], after_id: int
) -> Select[int]:
    """Return a query of the first ids after `after_id` that meet the condition."""
    ids = select(column.label("id")).where(column > after_id, condition)
    return select(ids.order_by(column).limit(MOST_MATCHES).subquery().c.id)


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


# Where an outer join has found no row, a condition is false instead of NULL.
IS_DEAD = func.coalesce(ProvisioningAttempt.state == AttemptState.DEAD, false())
IS_INACTIVE = func.coalesce(Mentorado.ativo == SimNao.NAO, false())
STATE_CONDITIONS: dict[UserState, ColumnElement[bool]] = {
    UserState.BLOCKED: or_(
        User.blocked_at.is_not(None),
        User.deleted_at.is_not(None),
        and_(User.role == Role.USER, IS_INACTIVE),
    ),
    UserState.ADMIN: User.role == Role.ADMIN,
    UserState.READY: Mentorado.id.is_not(None),
    UserState.ATTENTION: IS_DEAD,
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
    conditions = [User.id > after_id]
    if state is not None:
        conditions.append(_is(state))
    if search is not None:
        conditions.append(User.id.in_(search.user_ids(after_id=after_id)))
    return _users(session, *conditions, limit=limit)


def find_user(session: Session, user_id: int) -> ListedUser | None:
    """Return one user with their state; None for an unknown id."""
    return next(iter(_users(session, User.id == user_id, limit=1)), None)


def _users(session: Session, *conditions: ColumnElement[bool], limit: int) -> list[ListedUser]:
    found = (
        select(User, STATE, Mentorado, ProvisioningAttempt)
        .outerjoin(Mentorado, Mentorado.user_id == User.id)
        .outerjoin(ProvisioningAttempt, ProvisioningAttempt.clerk_id == User.clerk_id)
    )
    rows = session.execute(found.where(*conditions).order_by(User.id).limit(limit))
    return [ListedUser(user, UserState(state), *others) for user, state, *others in rows]


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
    row = next(iter(_users(session, User.clerk_id == clerk_id, limit=1)), None)
    if row is None:
        states = select(ProvisioningAttempt.state).where(ProvisioningAttempt.clerk_id == clerk_id)
        is_pending = session.scalars(states).one_or_none() == AttemptState.PENDING
        return Diagnosis(is_known=False, pending_attempt=is_pending)
    user, attempt = row.user, row.attempt
    matches = find_unlinked_ids(session, user.email) if user.email and user.email_verified else ()
    return Diagnosis(
        linked=row.mentorado is not None,
        unlinked_match=bool(matches),
        multiple_matches=len(matches) > 1,
        pending_attempt=attempt is not None and attempt.state == AttemptState.PENDING,
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
_SHARES_ADDRESS = exists().where(
    _OTHER.user_id.is_(None),
    _OTHER.id != Mentorado.id,
    func.normalized_address(_OTHER.email) == func.normalized_address(Mentorado.email),
)
KINDS: dict[MenteeKind, ColumnElement[bool]] = {
    MenteeKind.ACTIVE: Mentorado.ativo == SimNao.SIM,
    MenteeKind.INACTIVE: Mentorado.ativo == SimNao.NAO,
    MenteeKind.UNLINKED: Mentorado.user_id.is_(None),
    MenteeKind.AMBIGUOUS: and_(Mentorado.user_id.is_(None), _SHARES_ADDRESS),
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
