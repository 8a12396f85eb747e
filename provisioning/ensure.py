"""The guarantee itself: after `ensure` commits, the person has exactly one profile."""

import enum
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from psycopg2.errors import UniqueViolation
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError, NoResultFound
from sqlalchemy.orm import Session

from auth.identity import Identity
from models import AuditEvent, Mentorado
from models.mentorado import ONE_EACH
from provisioning import audit
from provisioning.audit import Source
from provisioning.context_version import read_version
from provisioning.errors import Denial, StaleDecisionError
from provisioning.loading import (
    LoadedUser,
    decision_facts,
    load_user,
    lock_profile,
    upsert_and_load_user,
)
from provisioning.profiles import (
    MENTORADO_COLUMNS,
    MentoradoRow,
    UserRow,
    fill_gaps,
    insert_automatic_profile,
    mentorado_row,
)
from provisioning.roles import sync_listed_admin
from provisioning.rules import Action, Decision, DecisionFacts, Rules, decide


class Outcome(enum.StrEnum):
    """What happened; `denied` comes with a reason."""

    EXISTING = "existing"
    CREATED = "created"
    LINKED = "linked"
    CLAIMED = "claimed"
    ADMIN = "admin"
    DENIED = "denied"


# After these something is otherwise than before, for caches, logs and people.
CHANGES = (Outcome.CREATED, Outcome.LINKED, Outcome.CLAIMED)


@dataclass(frozen=True, slots=True)
class EnsureResult:
    """The result for one person; `mentorado` is None only for `admin` and `denied`."""

    outcome: Outcome
    user: UserRow
    mentorado: MentoradoRow | None = None
    denial: Denial | None = None
    is_ambiguous: bool = False


@dataclass(frozen=True, slots=True)
class ForecastResult:
    """What would be decided about a person, and on which facts."""

    user_id: int
    decision: Decision
    standing: DecisionFacts


def ensure(
    session: Session, identity: Identity, *, source: Source, now: datetime, rules: Rules
) -> EnsureResult:
    """Make sure that this person has exactly one profile, in the caller's transaction.

    Safe to call at any time, any number of times, by any number of processes: exactly one caller is
    told `created`. An owned profile is never given to somebody else and an address that is not
    verified links nothing (CVE-2025-61783 and its kin). Raises whatever the database raises; a
    caller that rolls back has written nothing.
    """
    # 1. to 3. The row lock makes calls for one person queue up, and their address has its turn;
    #    every statement is a new one under READ COMMITTED and so sees what the call before us has
    #    committed: what is there already, and what waits for this address.
    met = upsert_and_load_user(session, identity, signs_in=source.is_sign_in, now=now)
    user = sync_listed_admin(session, met.user, rules.admin_emails, source=source)
    met = lock_profile(session, replace(met, user=user))
    standing = decision_facts(session, met)
    # 4. and 5. Decide, act, record.
    decision = decide(standing, met.effective_rules(rules))
    ensured = _apply_decision(session, decision, met, standing, source)
    is_own_changed = met.profile is not None and ensured.mentorado not in (None, met.profile)
    return _with_current_version(session, ensured) if is_own_changed else ensured


def stored_state(session: Session, clerk_id: str) -> EnsureResult | None:
    """How a user stands in the database, without a lock and without a change; None if unknown.

    `existing` with a profile that may be used, `admin` without one, `denied` with the reason where
    access is denied, and `existing` without a profile where there is none.
    """
    try:
        met = load_user(session, clerk_id)
    except NoResultFound:
        return None
    user, profile = met.user, met.profile
    if user.deleted_at is not None:
        return EnsureResult(Outcome.DENIED, user, denial=Denial.USER_DELETED)
    if user.blocked_at is not None:
        return EnsureResult(Outcome.DENIED, user, denial=Denial.USER_BLOCKED)
    if profile is not None and not profile.is_active:
        return EnsureResult(Outcome.DENIED, user, profile, Denial.MENTORADO_INACTIVE)
    is_exempt = profile is None and user.is_admin
    return EnsureResult(Outcome.ADMIN if is_exempt else Outcome.EXISTING, user, profile)


def forecast_decision(session: Session, clerk_id: str, rules: Rules) -> ForecastResult:
    """What `ensure` would decide about a known person just now; writes nothing.

    Raises NoResultFound for a person who is not known.
    """
    met = load_user(session, clerk_id)
    standing = decision_facts(session, met)
    return ForecastResult(met.user.id, decide(standing, met.effective_rules(rules)), standing)


def _apply_decision(
    session: Session, decision: Decision, met: LoadedUser, standing: DecisionFacts, source: Source
) -> EnsureResult:
    user, profile = met.user, met.profile
    match decision:
        case Decision(Action.DENY, denial=denial):
            return EnsureResult(Outcome.DENIED, user, denial=denial)
        case Decision(Action.EXEMPT):
            return EnsureResult(Outcome.ADMIN, user)
        case Decision(Action.LINK | Action.CLAIM, mentorado_id=int(waiting)):
            return _take_over(session, user, waiting, profile, source)
        case Decision(Action.CREATE):
            return _create(session, user, source, is_ambiguous=standing.is_ambiguous)
    return _existing(session, user, profile)


def _existing(session: Session, user: UserRow, profile: MentoradoRow | None) -> EnsureResult:
    if profile is not None and profile.is_unedited:
        profile = _completed(session, user, profile)
    if profile is not None and not profile.is_active:
        return EnsureResult(Outcome.DENIED, user, profile, Denial.MENTORADO_INACTIVE)
    return EnsureResult(Outcome.EXISTING, user, profile)


def _completed(session: Session, user: UserRow, profile: MentoradoRow) -> MentoradoRow:
    filled: dict[str, Any] = fill_gaps(profile, user)
    if filled:
        session.execute(update(Mentorado).where(Mentorado.id == profile.id).values(**filled))
    return replace(profile, **filled)


def _with_current_version(session: Session, ensured: EnsureResult) -> EnsureResult:
    """The result under the context version that its own changes have led to."""
    version = read_version(session, ensured.user.clerk_id) or ensured.user.context_version
    return replace(ensured, user=replace(ensured.user, context_version=version))


def _take_over(
    session: Session, user: UserRow, waiting: int, untouched: MentoradoRow | None, source: Source
) -> EnsureResult:
    """Give the waiting profile to the person; an untouched automatic one makes room for it."""
    outcome, details = Outcome.LINKED, None
    if untouched is not None:
        outcome, details = Outcome.CLAIMED, {"folded_mentorado_id": untouched.id}
        session.execute(delete(Mentorado).where(Mentorado.id == untouched.id))
    taken = _take_if_still_free(session, user, waiting)
    audit.record(
        session,
        source,
        f"mentorado_{outcome}",
        user_id=user.id,
        mentorado_id=taken.id,
        details=details,
    )
    return EnsureResult(
        outcome, user, taken, None if taken.is_active else Denial.MENTORADO_INACTIVE
    )


def _take_if_still_free(session: Session, user: UserRow, waiting: int) -> MentoradoRow:
    # The condition, not what we read before, decides: a program that does not take our lock on the
    # address may have given the profile to another user, or another address to the profile.
    take = (
        update(Mentorado)
        .where(
            Mentorado.id == waiting,
            Mentorado.user_id.is_(None),
            func.normalized_address(Mentorado.email) == func.normalized_address(user.email),
        )
        .values(user_id=user.id, updated_at=func.now())
        .returning(*MENTORADO_COLUMNS)
    )
    try:
        taken = session.execute(take).one_or_none()
    except IntegrityError as err:
        if not isinstance(err.orig, UniqueViolation) or err.orig.diag.constraint_name != ONE_EACH:
            raise
        # A sweep that had not seen the address proven. Deciding again finds its profile untouched.
        raise StaleDecisionError(f"user {user.id} was given a profile meanwhile") from err
    if taken is None:
        raise StaleDecisionError(f"mentorado {waiting} has another owner or address by now")
    return mentorado_row(taken)


def _create(session: Session, user: UserRow, source: Source, *, is_ambiguous: bool) -> EnsureResult:
    created = insert_automatic_profile(session, user.id, source)
    if created is None:  # a program that does not take our lock was faster; its row is the profile
        theirs = select(*MENTORADO_COLUMNS).where(Mentorado.user_id == user.id)
        return _existing(session, user, mentorado_row(session.execute(theirs).one()))
    if is_ambiguous:
        audit.record(
            session, source, "mentorado_link_ambiguous", user_id=user.id, mentorado_id=created.id
        )
    return EnsureResult(Outcome.CREATED, user, created, is_ambiguous=is_ambiguous)


EVENTS = {f"mentorado_{outcome}": outcome for outcome in CHANGES}


def recover_lost_commit(session: Session, ensured: EnsureResult, source: Source) -> EnsureResult:
    """The outcome as the request's first try had it, whose commit may have arrived after all.

    For a try after the first: otherwise a profile would be there that nobody was told they have
    created. A door without a request id has nobody to tell.
    """
    if (
        ensured.outcome is not Outcome.EXISTING
        or ensured.mentorado is None
        or not source.request_id
    ):
        return ensured
    ours = (AuditEvent.request_id == source.request_id, AuditEvent.event.in_(EVENTS))
    of_theirs = AuditEvent.mentorado_id == ensured.mentorado.id
    told = select(AuditEvent.event).where(*ours, of_theirs).order_by(AuditEvent.id.desc()).limit(1)
    event = session.scalars(told).one_or_none()
    return replace(ensured, outcome=EVENTS[event]) if event else ensured
