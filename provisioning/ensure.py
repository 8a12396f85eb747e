"""Ensure that a user has exactly one profile, in the caller's transaction.

1. Upsert the user, lock the row, and load the own profile and the unlinked profiles with the
   user's verified address (`upsert_and_load_user`). A new user without such a profile gets an
   automatic one in the same statement, which ends here.
2. Set or remove the admin role by ADMIN_EMAILS.
3. Decide (`provisioning/rules.py`).
4. Keep, link, claim or create the profile, or deny; add the audit event.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from psycopg2.errors import UniqueViolation
from sqlalchemy import Boolean, Column, bindparam, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.exc import IntegrityError, NoResultFound
from sqlalchemy.orm import Session
from sqlalchemy.types import Integer

from auth.identity import NAME_LENGTH, URL_LENGTH, Identity
from models import AppSetting, AuditEvent, Mentorado, User
from models.people import UNIQUE_USER_INDEX
from provisioning import audit
from provisioning.audit import Source
from provisioning.errors import Denial, StaleDecisionError
from provisioning.profiles import (
    ADDRESS_LOCKS,
    AUTO_CREATE,
    DEFAULT_NAME,
    INSERT_WITH_EVENT,
    MENTORADO_COLUMNS,
    USER_COLUMNS,
    MentoradoRow,
    UserRow,
    find_unlinked_ids,
    is_untouched,
    read_version,
)
from provisioning.roles import is_listed, sync_listed_admin
from provisioning.rules import Action, Decision, DecisionFacts, Rules, decide


class Outcome(enum.StrEnum):
    """The result of an ensure call; `denied` comes with a reason."""

    EXISTING = "existing"
    CREATED = "created"
    LINKED = "linked"
    CLAIMED = "claimed"
    ADMIN = "admin"
    DENIED = "denied"


# Outcomes that have changed the user's profile.
CHANGES = (Outcome.CREATED, Outcome.LINKED, Outcome.CLAIMED)


@dataclass(frozen=True, slots=True)
class EnsureResult:
    """The result for one user; `mentorado` is None only for `admin` and `denied`."""

    outcome: Outcome
    user: UserRow
    mentorado: MentoradoRow | None = None
    denial: Denial | None = None
    is_ambiguous: bool = False


@dataclass(frozen=True, slots=True)
class LoadedUser:
    """A user with their own profile, the stored switch for auto-creation, and possible matches.

    `matches` are at most two ids of unlinked profiles with the user's *verified* address.
    `is_created`: the profile was created in this round trip.
    """

    user: UserRow
    profile: MentoradoRow | None
    is_auto_create_on: bool
    matches: tuple[int, ...]
    is_created: bool = False


@dataclass(frozen=True, slots=True)
class DecisionPreview:
    """The decision that `ensure` would take about a user, and the facts behind it."""

    user_id: int
    decision: Decision
    facts: DecisionFacts


# The functions of migrations 0018 and 0023 hold the rules for what is stored.
UPSERT_AND_LOAD = (
    text(f"""
    SELECT {", ".join(f"(loaded.loaded_user).{column.name}" for column in USER_COLUMNS)},
           {", ".join(f"(loaded.profile).{column.name}" for column in MENTORADO_COLUMNS)},
           loaded.switch, loaded.matches, loaded.is_created
      FROM upsert_user_and_create_profile(
               :clerk_id, :name, :email, :email_verified, :image_url, :login_method,
               :is_complete, :as_of, :signs_in, :now, {ADDRESS_LOCKS}, '{AUTO_CREATE}',
               :may_create, '{DEFAULT_NAME}', :entry, :actor_id, :request_id, :details) AS loaded
""")  # noqa: S608 - names of columns, and constants
    .bindparams(bindparam("details", type_=JSONB))
    .columns(
        *USER_COLUMNS,
        *MENTORADO_COLUMNS,
        AppSetting.__table__.c.value,
        Column("matches", ARRAY(Integer)),
        Column("is_created", Boolean),
    )
)
NO_EVENT = dict.fromkeys(("entry", "actor_id", "request_id", "details"))
IDENTITY_FIELDS = [field.name for field in fields(Identity)]
LOAD = (
    select(*USER_COLUMNS, *MENTORADO_COLUMNS, AppSetting.value)
    .select_from(User)
    .outerjoin(Mentorado, Mentorado.user_id == User.id)
    .outerjoin(AppSetting, AppSetting.key == AUTO_CREATE)
    .where(User.clerk_id == bindparam("clerk_id"))
)


def ensure(
    session: Session, identity: Identity, *, source: Source, now: datetime, rules: Rules
) -> EnsureResult:
    """Ensure that this user has exactly one profile; return what was done.

    Safe to call at any time, any number of times, by any number of processes: exactly one caller
    gets `created`. An owned profile is never given to another user, and an unverified address links
    nothing (CVE-2025-61783 and similar). Raises what the database raises; a caller that rolls back
    has written nothing.
    """
    # The row lock and the address lock queue calls for the same user or address. Under READ
    # COMMITTED every statement sees what the call before has committed.
    may_create = rules.auto_create and not rules.invited_only
    is_listed_admin = is_listed(identity, rules.admin_emails)
    loaded = upsert_and_load_user(
        session,
        identity,
        signs_in=source.is_user_request,
        now=now,
        # As `decide` would, for a new user without a match.
        profile_source=source if may_create and not is_listed_admin else None,
    )
    if loaded.is_created:
        return EnsureResult(Outcome.CREATED, loaded.user, loaded.profile)
    user = sync_listed_admin(session, loaded.user, rules.admin_emails, source=source)
    loaded, facts = read_facts(session, replace(loaded, user=user), is_locking=True)
    result = _apply_decision(session, decide(facts, rules), loaded, facts, source)
    # Triggers increment the version if an own profile changes, not for a user who had none.
    if loaded.profile is None or result.mentorado in (None, loaded.profile):
        return result
    version = read_version(session, user.clerk_id) or user.context_version
    return replace(result, user=replace(user, context_version=version))


def stored_state(session: Session, clerk_id: str) -> EnsureResult | None:
    """Return the stored state of a user, without a lock or a change; None for an unknown user.

    The outcome is `existing` for a user with or without a usable profile, `admin` for an admin
    without one, and `denied`, with the reason, for a user whose access is denied.
    """
    try:
        loaded = load_user(session, clerk_id)
    except NoResultFound:
        return None
    user, profile = loaded.user, loaded.profile
    if user.deleted_at is not None:
        return EnsureResult(Outcome.DENIED, user, denial=Denial.USER_DELETED)
    if user.blocked_at is not None:
        return EnsureResult(Outcome.DENIED, user, denial=Denial.USER_BLOCKED)
    if profile is not None and not profile.is_active:
        return EnsureResult(Outcome.DENIED, user, profile, Denial.MENTORADO_INACTIVE)
    is_exempt = profile is None and user.is_admin
    return EnsureResult(Outcome.ADMIN if is_exempt else Outcome.EXISTING, user, profile)


def preview_decision(session: Session, clerk_id: str, rules: Rules) -> DecisionPreview:
    """Return what `ensure` would decide about a stored user; writes nothing.

    Raises NoResultFound for an unknown user.
    """
    loaded = load_user(session, clerk_id)
    _, facts = read_facts(session, loaded, is_locking=False)
    return DecisionPreview(loaded.user.id, decide(facts, rules), facts)


def upsert_and_load_user(
    session: Session,
    identity: Identity,
    *,
    signs_in: bool,
    now: datetime,
    profile_source: Source | None = None,
) -> LoadedUser:
    """Store the identity's known values and return the user as loaded, in one round trip.

    The user's row is locked until the commit, so that calls for one user queue up. Where an
    unlinked profile may be linked, the user's address is locked too: other users with that address
    and its pre-registration wait.

    With `profile_source`, a user who was not stored before gets an automatic profile at once, and
    its audit event has this source. Not where an unlinked profile may be linked, or where the
    stored switch forbids automatic profiles.
    """
    session.flush()  # for the caller's changes; execution on the connection does not flush
    values = {name: getattr(identity, name) for name in IDENTITY_FIELDS}
    event = audit.event_values(profile_source, "mentorado_created") if profile_source else NO_EVENT
    may_create = profile_source is not None
    values |= event | {"signs_in": signs_in, "now": now, "may_create": may_create}
    return _loaded_user(session.connection().execute(UPSERT_AND_LOAD, values).one())


def upsert_user(session: Session, identity: Identity, *, signs_in: bool, now: datetime) -> User:
    """Store the identity's known values and return the user's row, locked until the commit."""
    loaded = upsert_and_load_user(session, identity, signs_in=signs_in, now=now)
    return session.get_one(User, loaded.user.id, populate_existing=True)


def load_user(session: Session, clerk_id: str) -> LoadedUser:
    """Return a stored user as loaded; writes nothing, takes no lock and waits for none.

    Raises NoResultFound for an unknown user.
    """
    session.flush()  # as above
    row = session.execute(LOAD, {"clerk_id": clerk_id}).one()
    loaded = _loaded_user([*row, (), False])
    if not loaded.user.email or not loaded.user.email_verified:
        return loaded
    return replace(loaded, matches=find_unlinked_ids(session, loaded.user.email))


def _loaded_user(row: Sequence[Any]) -> LoadedUser:
    user, rest = row[: len(USER_COLUMNS)], row[len(USER_COLUMNS) :]
    *profile, switch, matches, is_created = rest
    owned = MentoradoRow(*profile) if profile[0] is not None else None
    return LoadedUser(UserRow(*user), owned, switch is not False, tuple(matches), is_created)


def read_facts(
    session: Session, loaded: LoadedUser, *, is_locking: bool
) -> tuple[LoadedUser, DecisionFacts]:
    """Return the facts for `decide`, and the user with the profile that they are about.

    Only a profile that a match may replace is queried; `is_locking` also locks it until the commit.
    Raises StaleDecisionError where it was deleted meanwhile.
    """
    user, profile, matches = loaded.user, loaded.profile, loaded.matches
    if is_locking and matches and profile is not None and profile.is_unedited:
        # A month that is being saved is committed before this lock, or fails on its foreign key.
        locked = select(*MENTORADO_COLUMNS).where(Mentorado.id == profile.id).with_for_update()
        row: Sequence[Any] | None = session.execute(locked).one_or_none()
        if row is None:
            raise StaleDecisionError(f"mentorado {profile.id} was deleted meanwhile")
        profile = MentoradoRow(*row)
        loaded = replace(loaded, profile=profile)
    may_be_linked = profile.is_unedited if profile else not user.is_admin
    if not may_be_linked:
        matches = ()
    return loaded, DecisionFacts(
        is_deleted=user.deleted_at is not None,
        is_blocked=user.blocked_at is not None,
        is_admin=user.is_admin,
        has_profile=profile is not None,
        is_untouched=bool(matches) and profile is not None and is_untouched(session, profile),
        is_auto_create_on=loaded.is_auto_create_on,
        matches=matches,
    )


def _apply_decision(
    session: Session, decision: Decision, loaded: LoadedUser, facts: DecisionFacts, source: Source
) -> EnsureResult:
    user, profile = loaded.user, loaded.profile
    match decision:
        case Decision(Action.DENY, denial=denial):
            return EnsureResult(Outcome.DENIED, user, denial=denial)
        case Decision(Action.EXEMPT):
            return EnsureResult(Outcome.ADMIN, user)
        case Decision(Action.LINK | Action.CLAIM, mentorado_id=int(unlinked_id)):
            return _link(session, user, unlinked_id, profile, source)
        case Decision(Action.CREATE):
            return _create(session, user, source, is_ambiguous=facts.is_ambiguous)
    return _existing(session, user, profile)


def _existing(session: Session, user: UserRow, profile: MentoradoRow | None) -> EnsureResult:
    """Fill empty columns of an unedited profile with what the user's identity now has."""
    filled: dict[str, Any] = {}
    if profile is None:
        return EnsureResult(Outcome.EXISTING, user)
    if profile.is_unedited:
        if profile.nome_completo == DEFAULT_NAME and user.name:
            filled["nome_completo"] = user.name[:NAME_LENGTH]
        if profile.email is None and user.email is not None:
            filled["email"] = user.email
        if profile.foto_url is None and 0 < len(user.image_url or "") <= URL_LENGTH:
            filled["foto_url"] = user.image_url
    if filled:
        session.execute(update(Mentorado).where(Mentorado.id == profile.id).values(**filled))
        profile = replace(profile, **filled)
    if not profile.is_active:
        return EnsureResult(Outcome.DENIED, user, profile, Denial.MENTORADO_INACTIVE)
    return EnsureResult(Outcome.EXISTING, user, profile)


def _link(
    session: Session,
    user: UserRow,
    unlinked_id: int,
    untouched: MentoradoRow | None,
    source: Source,
) -> EnsureResult:
    """Link the unlinked profile to the user and delete the user's untouched automatic one."""
    outcome, details = Outcome.LINKED, None
    if untouched is not None:
        outcome, details = Outcome.CLAIMED, {"folded_mentorado_id": untouched.id}
        session.execute(delete(Mentorado).where(Mentorado.id == untouched.id))
    linked = _link_if_unlinked(session, user, unlinked_id)
    audit.record(
        session,
        source,
        f"mentorado_{outcome}",
        user_id=user.id,
        mentorado_id=linked.id,
        details=details,
    )
    denial = None if linked.is_active else Denial.MENTORADO_INACTIVE
    return EnsureResult(outcome, user, linked, denial)


def _link_if_unlinked(session: Session, user: UserRow, unlinked_id: int) -> MentoradoRow:
    # The condition decides, not the rows read before: a program without our address lock may have
    # linked the profile to another user or changed its address.
    statement = (
        update(Mentorado)
        .where(
            Mentorado.id == unlinked_id,
            Mentorado.user_id.is_(None),
            func.normalized_address(Mentorado.email) == func.normalized_address(user.email),
        )
        .values(user_id=user.id, updated_at=func.now())
        .returning(*MENTORADO_COLUMNS)
    )
    try:
        row: Sequence[Any] | None = session.execute(statement).one_or_none()
    except IntegrityError as err:
        if (
            not isinstance(err.orig, UniqueViolation)
            or err.orig.diag.constraint_name != UNIQUE_USER_INDEX
        ):
            raise
        # A sweep that read the address as unverified. A new decision finds its profile untouched.
        raise StaleDecisionError(f"user {user.id} was given a profile meanwhile") from err
    if row is None:
        raise StaleDecisionError(f"mentorado {unlinked_id} has another owner or address by now")
    return MentoradoRow(*row)


def _create(session: Session, user: UserRow, source: Source, *, is_ambiguous: bool) -> EnsureResult:
    values = audit.event_values(source, "mentorado_created") | {"of_user": user.id}
    inserted = session.connection().execute(INSERT_WITH_EVENT, values)
    row: Sequence[Any] | None = inserted.one_or_none()
    if row is None:  # a program without our lock was faster; its row is the profile
        existing = select(*MENTORADO_COLUMNS).where(Mentorado.user_id == user.id)
        owned: Sequence[Any] = session.execute(existing).one()
        return _existing(session, user, MentoradoRow(*owned))
    created = MentoradoRow(*row)
    if is_ambiguous:
        audit.record(
            session, source, "mentorado_link_ambiguous", user_id=user.id, mentorado_id=created.id
        )
    return EnsureResult(Outcome.CREATED, user, created, is_ambiguous=is_ambiguous)


_OUTCOME_BY_EVENT = {f"mentorado_{outcome}": outcome for outcome in CHANGES}


def recover_lost_commit(session: Session, result: EnsureResult, source: Source) -> EnsureResult:
    """Return the result of a retry with the outcome that an earlier try of it has committed.

    The commit may have succeeded although its answer was lost; without this, no caller would get
    `created`. A source without a request id needs no such outcome.
    """
    is_existing = result.outcome is Outcome.EXISTING
    if not is_existing or result.mentorado is None or not source.request_id:
        return result
    committed = select(AuditEvent.event).where(
        AuditEvent.request_id == source.request_id,
        AuditEvent.event.in_(_OUTCOME_BY_EVENT),
        AuditEvent.mentorado_id == result.mentorado.id,
    )
    event = session.scalars(committed.order_by(AuditEvent.id.desc()).limit(1)).one_or_none()
    return replace(result, outcome=_OUTCOME_BY_EVENT[event]) if event else result
