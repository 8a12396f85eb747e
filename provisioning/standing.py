"""Where a person stands: the facts on which it is decided which profile is theirs."""

from dataclasses import dataclass, replace

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import AppSetting, Mentorado, User
from provisioning.errors import StaleDecisionError
from provisioning.linking import Rules, Standing
from provisioning.references import is_referenced

AUTO_CREATE = "auto_create"  # key of the stored kill switch in app_settings
CHOICES = 20  # of one address; more would be a mistake of another kind
ADDRESS_LOCKS = 20_251  # first half of the advisory keys that stand for an address


@dataclass(frozen=True, slots=True)
class Found:
    """What belongs to a person already, and the rules as the stored switch leaves them."""

    profile: Mentorado | None
    rules: Rules


def find(session: Session, user: User, rules: Rules) -> Found:
    """Read the person's profile and the stored switch, in one statement."""
    row = session.execute(
        select(Mentorado, AppSetting.value)
        .select_from(User)
        .outerjoin(Mentorado, Mentorado.user_id == User.id)
        .outerjoin(AppSetting, AppSetting.key == AUTO_CREATE)
        .where(User.id == user.id)
    ).one()
    auto_create = rules.auto_create and row.value is not False
    return Found(row.Mentorado, replace(rules, auto_create=auto_create))


def settled(session: Session, user: User, profile: Mentorado | None) -> Standing:
    """The facts, held still until the commit by locks on the address and on the profile.

    Raises StaleDecisionError when the profile has gone meanwhile.
    """
    matches: tuple[int, ...] = ()
    if _may_match(user, profile):
        lock_address(session, str(user.email))
        matches = waiting_for(session, str(user.email))
    if matches and profile is not None:
        _lock_profile(session, profile)
    return _standing(session, user, profile, matches)


def glimpsed(session: Session, user: User, profile: Mentorado | None) -> Standing:
    """The facts as they are just now, for a forecast: locks nothing and waits for nobody."""
    matches = waiting_for(session, str(user.email)) if _may_match(user, profile) else ()
    return _standing(session, user, profile, matches)


def lock_address(session: Session, address: str) -> None:
    """Take turns with pre-registration and with others of this address.

    A lock of the transaction, not of the session, so that a pooler may sit between. Whoever locks
    people's rows as well does so before, and profiles after: in one order nobody waits in a circle.
    """
    key = func.hashtext(func.normalized_address(address))
    session.execute(select(func.pg_advisory_xact_lock(ADDRESS_LOCKS, key)))


def waiting_for(session: Session, address: str) -> tuple[int, ...]:
    """Ids of at most two profiles that nobody owns and that have this address."""
    same_address = func.normalized_address(Mentorado.email) == func.normalized_address(address)
    unlinked = select(Mentorado.id).where(Mentorado.user_id.is_(None), same_address)
    return tuple(session.scalars(unlinked.order_by(Mentorado.id).limit(2)))


def waiting_profiles(session: Session, address: str) -> list[Mentorado]:
    """All profiles that nobody owns and that have this address, for somebody to choose from."""
    same_address = func.normalized_address(Mentorado.email) == func.normalized_address(address)
    unlinked = select(Mentorado).where(Mentorado.user_id.is_(None), same_address)
    return list(session.scalars(unlinked.order_by(Mentorado.id).limit(CHOICES)))


def is_untouched(session: Session, profile: Mentorado) -> bool:
    """Whether the profile was made automatically, no person edited it and nothing refers to it."""
    return profile.is_unedited and not is_referenced(session, profile.id)


def _standing(
    session: Session, user: User, profile: Mentorado | None, matches: tuple[int, ...]
) -> Standing:
    return Standing(
        is_deleted=user.deleted_at is not None,
        is_blocked=user.blocked_at is not None,
        is_admin=user.is_admin,
        has_profile=profile is not None,
        is_untouched=bool(matches) and profile is not None and is_untouched(session, profile),
        matches=matches,
    )


def _may_match(user: User, profile: Mentorado | None) -> bool:
    """Whether a waiting profile could still become theirs; only a proven address finds one."""
    is_free = profile.is_unedited if profile else not user.is_admin
    return is_free and bool(user.email) and user.email_verified


def _lock_profile(session: Session, profile: Mentorado) -> None:
    """Let a month being saved meanwhile either show up here or fail on its foreign key."""
    this = select(Mentorado).where(Mentorado.id == profile.id).with_for_update()
    if session.scalars(this, execution_options={"populate_existing": True}).one_or_none() is None:
        raise StaleDecisionError(f"mentorado {profile.id} has gone meanwhile")
