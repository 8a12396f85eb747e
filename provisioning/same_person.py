"""Merge what belongs to one person: two accounts, an account and a profile, or two profiles.

1. Lock both users, then both profiles, each by id.
2. Of two accounts, the other one is unlinked and blocked; its user sees which address to use.
3. Of two profiles, one is merged into the other; an untouched automatic profile is the one that
   goes. A single profile is given to the account that stays.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from core.email_address import normalize_address
from models import Mentorado, User
from provisioning.admin_actions import (
    load_profile_for_update,
    load_user_for_update,
    record_action,
    release_profile,
)
from provisioning.audit import Source
from provisioning.errors import (
    Conflict,
    ConflictError,
    StaleDecisionError,
    UnknownMentoradoError,
    UnknownUserError,
)
from provisioning.merge import MergeConflict, MergeSpec, Prefer, merge
from provisioning.preview import ChangeResult
from provisioning.profiles import is_untouched
from provisioning.user_lists import SearchTerm, find_user, list_mentees, list_users

MOST_CANDIDATES = 10


@dataclass(frozen=True, slots=True)
class AccountOrProfile:
    """One of the two: an account with or without profile, or a profile without account."""

    user: User | None
    profile: Mentorado | None

    @property
    def name(self) -> str:
        """The name of the account, or else of the profile; «sem nome» without either."""
        own = self.profile.nome_completo if self.profile else None
        return (self.user.name if self.user else None) or own or "sem nome"

    @property
    def emails(self) -> list[str]:
        """The addresses of the account and of the profile, without repetition."""
        written = (self.user and self.user.email, self.profile and self.profile.email)
        return list(dict.fromkeys(email for email in written if email))

    @property
    def key(self) -> tuple[int | None, int | None]:
        """The ids of the account and of the profile; no two sides have the same."""
        return (self.user.id if self.user else None, self.profile.id if self.profile else None)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An account or profile of perhaps the same person; the address or the name is the reason."""

    side: AccountOrProfile
    has_same_address: bool


def load_account(session: Session, user_id: int) -> AccountOrProfile:
    """Return an account with its profile; raises UnknownUserError."""
    row = find_user(session, user_id)
    if row is None:
        raise UnknownUserError(f"there is no user {user_id}")
    return AccountOrProfile(row.user, row.mentorado)


def load_profile(session: Session, mentorado_id: int) -> AccountOrProfile:
    """Return a profile with its account, if any; raises UnknownMentoradoError."""
    profile = session.get(Mentorado, mentorado_id)
    if profile is None:
        raise UnknownMentoradoError(f"there is no mentorado {mentorado_id}")
    user = session.get(User, profile.user_id) if profile.user_id is not None else None
    return AccountOrProfile(user, profile)


def find_accounts_and_profiles(
    session: Session, term: SearchTerm, *, limit: int
) -> list[AccountOrProfile]:
    """Return the accounts that a search finds, then the profiles without an account."""
    users = list_users(session, search=term, limit=limit)
    profiles = list_mentees(session, search=term, limit=limit)
    accounts = [AccountOrProfile(row.user, row.mentorado) for row in users]
    return accounts + [AccountOrProfile(None, each) for each in profiles if each.user_id is None]


def find_candidates(session: Session, side: AccountOrProfile) -> list[Candidate]:
    """Return who has the same address, verified or not, and then who has the same name."""
    found: dict[tuple[int | None, int | None], Candidate] = {}
    addresses = {normalize_address(email) for email in side.emails}
    for text in dict.fromkeys([*side.emails, side.name]):
        for other in find_accounts_and_profiles(session, SearchTerm(text), limit=MOST_CANDIDATES):
            is_same = any(normalize_address(email) in addresses for email in other.emails)
            if other.key != side.key and (is_same or text == side.name):
                found.setdefault(other.key, Candidate(other, is_same))
    return sorted(found.values(), key=lambda each: not each.has_same_address)[:MOST_CANDIDATES]


def merge_same_person(
    session: Session,
    kept: AccountOrProfile,
    other: AccountOrProfile,
    *,
    prefer: Prefer = Prefer.INTO,
    source: Source,
    now: datetime,
) -> ChangeResult:
    """Give everything of `other` to `kept`, whose account stays; both were loaded in this session.

    `prefer` says whose row counts where both have reported the same month: INTO is that of `kept`.
    Raises ConflictError, StaleDecisionError where one of them has changed meanwhile, and what
    `merge` raises; then nothing is written.
    """
    sides = (kept, other)
    _lock(session, sides)
    _check(kept, other, source)
    profile = kept.profile or other.profile
    conflicts: list[MergeConflict] = []
    clerk_ids = {side.user.clerk_id for side in sides if side.user}
    spec = _merge_spec(session, kept, other, prefer, source)
    if other.user is not None and kept.user is not None:
        _close_account(session, other.user, other.profile, kept.user, now)
    if spec is not None:
        merged = merge(session, spec, source=source, now=now)
        profile, conflicts = merged.mentorado, merged.conflicts
        clerk_ids.update(merged.clerk_ids)
    elif profile is not None and kept.user is not None and profile.user_id != kept.user.id:
        profile.user_id, profile.edited_at, profile.updated_at = kept.user.id, now, now
    session.flush()  # the event refers to the new state
    details = {"other_user_id": other.key[0]}
    record_action(session, source, "same_person", user=kept.user, profile=profile, **details)
    return ChangeResult(sorted(clerk_ids), conflicts)


def address_to_use(session: Session, clerk_id: str) -> str | None:
    """Return the address of the account to use instead of this one, mostly hidden; or None."""
    other = aliased(User)
    found = select(other.email).join(User, User.same_person_as == other.id)
    email = session.scalars(
        found.where(User.clerk_id == clerk_id, User.blocked_at.is_not(None))
    ).one_or_none()
    if email is None:
        return None
    local, _, domain = email.rpartition("@")
    return f"{local[:2]}•••@{domain}"


def _lock(session: Session, sides: Iterable[AccountOrProfile]) -> None:
    keys = [side.key for side in sides]
    for user_id in sorted({user_id for user_id, _ in keys if user_id is not None}):
        load_user_for_update(session, user_id)
    for mentorado_id in sorted({profile_id for _, profile_id in keys if profile_id is not None}):
        load_profile_for_update(session, mentorado_id)
    for side in sides:
        if side.profile is not None and side.profile.user_id != side.key[0]:
            raise StaleDecisionError(f"mentorado {side.profile.id} has just changed its owner")


def _merge_spec(
    session: Session,
    kept: AccountOrProfile,
    other: AccountOrProfile,
    prefer: Prefer,
    source: Source,
) -> MergeSpec | None:
    """Return which profile to merge into which; None where there are not two."""
    if kept.profile is None or other.profile is None:
        return None
    removed, stays = other.profile, kept.profile
    if is_untouched(session, stays) and not is_untouched(session, removed):
        removed, stays = stays, removed
        prefer = Prefer.FROM if prefer is Prefer.INTO else Prefer.INTO
    return MergeSpec(removed.id, stays.id, prefer, source.request_id)


def _check(kept: AccountOrProfile, other: AccountOrProfile, source: Source) -> None:
    if kept.key == other.key or (kept.user is not None and kept.user is other.user):
        raise ConflictError(Conflict.SAME_PROFILE)
    if kept.user is None and other.user is not None:
        raise ConflictError(Conflict.OWNED, "the account has to be the one that stays")
    if kept.user is not None and kept.user.deleted_at is not None:
        raise ConflictError(Conflict.DELETED_ACCOUNT)
    if kept.user is not None and kept.user.blocked_at is not None:
        raise ConflictError(Conflict.KEPT_BLOCKED)
    if other.user is not None and other.user.id == source.actor_id:
        raise ConflictError(Conflict.OWN_ACCOUNT)


def _close_account(
    session: Session, user: User, profile: Mentorado | None, kept: User, now: datetime
) -> None:
    """Block an account, take its profile from it, and store which account to use instead."""
    if profile is not None:
        release_profile(session, profile, user)
        profile.edited_at = profile.updated_at = now
    user.blocked_at = user.blocked_at or now
    user.same_person_as = kept.id
    session.flush()  # `user_id` is unique: it must be free for the other account
