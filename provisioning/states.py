"""One status for each person, as support sees them, and the people in each."""

import enum
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, and_, case, false, func, not_, or_, select
from sqlalchemy.orm import Session

from models import AuditEvent, Mentorado, ProvisioningAttempt, User
from models.columns import SimNao
from models.provisioning_attempt import AttemptState
from models.user import Role
from provisioning.address_holders import address_matches


class PersonState(enum.StrEnum):
    """Where a person stands (CONTRACT section 4.2); the first that applies is theirs."""

    BLOCKED = "blocked"  # by an admin, by an inactive profile, or with the account deleted
    ADMIN = "admin"
    READY = "ready"
    ATTENTION = "attention"  # the background has given up
    PENDING = "pending"  # it is trying
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class PersonRow:
    """A person with their state and, where there are any, their profile and record of failure."""

    user: User
    state: PersonState
    mentorado: Mentorado | None
    attempt: ProvisioningAttempt | None


def _surely(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """What an outer join has left open counts as no."""
    return func.coalesce(condition, false())


IS_INACTIVE_MENTEE = and_(User.role == Role.USER, _surely(Mentorado.ativo == SimNao.NAO))
CLAIMS: dict[PersonState, ColumnElement[bool]] = {
    PersonState.BLOCKED: or_(
        User.blocked_at.is_not(None), User.deleted_at.is_not(None), IS_INACTIVE_MENTEE
    ),
    PersonState.ADMIN: User.role == Role.ADMIN,
    PersonState.READY: Mentorado.id.is_not(None),
    PersonState.ATTENTION: _surely(ProvisioningAttempt.state == AttemptState.DEAD),
    PersonState.PENDING: ProvisioningAttempt.id.is_not(None),
    PersonState.MISSING: User.id.is_not(None),
}
STATE = case(*((claim, state.value) for state, claim in CLAIMS.items()))


def people(
    session: Session,
    *,
    state: PersonState | None = None,
    wanted: str | None = None,
    shown_to: str | None = None,
    after_id: int = 0,
    limit: int,
) -> list[PersonRow]:
    """People in key order: of one state, or found by name, address, Clerk id or reference code.

    `shown_to` is the Clerk id of whoever was shown `wanted` as a code; they are found as well.
    """
    found = _everybody().where(User.id > after_id).order_by(User.id).limit(limit)
    if state is not None:
        found = found.where(_is(state))
    if wanted:
        found = found.where(or_(_matches(wanted), User.clerk_id == shown_to))
    return _rows(session, found)


def person(session: Session, user_id: int) -> PersonRow | None:
    """One person, with their state; None for an id of nobody."""
    return next(iter(_rows(session, _everybody().where(User.id == user_id))), None)


def _everybody() -> Select[User, str, Mentorado | None, ProvisioningAttempt | None]:
    return (
        select(User, STATE, Mentorado, ProvisioningAttempt)
        .outerjoin(Mentorado, Mentorado.user_id == User.id)
        .outerjoin(ProvisioningAttempt, ProvisioningAttempt.clerk_id == User.clerk_id)
    )


def _rows(
    session: Session,
    found: Select[User, str, Mentorado | None, ProvisioningAttempt | None],
) -> list[PersonRow]:
    return [
        PersonRow(user, PersonState(state), mentorado, attempt)
        for user, state, mentorado, attempt in session.execute(found)
    ]


def _is(state: PersonState) -> ColumnElement[bool]:
    """Told claim by claim instead of by the whole case, so that indexes can help."""
    earlier = list(CLAIMS)[: list(CLAIMS).index(state)]
    return and_(CLAIMS[state], *(not_(CLAIMS[claim]) for claim in earlier))


def _matches(wanted: str) -> ColumnElement[bool]:
    seen = select(AuditEvent.user_id).where(AuditEvent.request_id == wanted)
    failed = select(ProvisioningAttempt.clerk_id).where(ProvisioningAttempt.request_id == wanted)
    return or_(
        User.name.icontains(wanted, autoescape=True),
        address_matches(User.email, wanted),
        User.clerk_id == wanted,
        User.id.in_(seen),
        User.clerk_id.in_(failed),
    )
