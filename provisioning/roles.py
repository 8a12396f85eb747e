"""Who is an admin: whoever the operator lists by address, and whoever was granted it by hand."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from models import User
from models.user import Role
from provisioning import audit
from provisioning.audit import Entry
from provisioning.rows import UserRow


class Change(Protocol):
    """What `grant` and `revoke` have in common."""

    def __call__(self, session: Session, email: str, *, entry: Entry) -> list[str]:
        """Change the role of an address's people; returns their Clerk ids."""
        ...


class NobodyFoundError(Exception):
    """Nobody with that verified address has ever been here."""


def follow_list(
    session: Session, user: UserRow, admin_emails: frozenset[str], *, entry: Entry
) -> UserRow:
    """Bring a person's role in line with ADMIN_EMAILS (CONTRACT section 2); returns them with it.

    The role comes with the verified primary address and goes with it, be it that the address or the
    list has changed. A granted role is not the list's business.
    """
    is_listed = _is_listed(user, admin_emails)
    if is_listed and not user.is_admin:
        return _listed(session, user, Role.ADMIN, entry)
    if user.admin_by_address and not is_listed:
        return _listed(session, user, Role.USER, entry)
    return user


def is_in_line(user: User | UserRow, admin_emails: frozenset[str]) -> bool:
    """Whether `follow_list` has nothing to do."""
    is_listed = _is_listed(user, admin_emails)
    return user.is_admin if is_listed else not user.admin_by_address


def grant(session: Session, email: str, *, entry: Entry) -> list[str]:
    """Make everybody who has proven this address an admin, for good; returns their Clerk ids.

    Raises NobodyFoundError.
    """
    people = _with_proven_address(session, email)
    for user in people:
        user.role, user.admin_by_address = Role.ADMIN, False
        _record(session, user, entry, "grant")
    return [user.clerk_id for user in people]


def revoke(session: Session, email: str, *, entry: Entry) -> list[str]:
    """Take the role from everybody who has proven this address; returns their Clerk ids.

    Whoever is listed in ADMIN_EMAILS has it again at their next request. Raises NobodyFoundError.
    """
    people = _with_proven_address(session, email)
    for user in people:
        user.role, user.admin_by_address = Role.USER, False
        _record(session, user, entry, "revoke")
    return [user.clerk_id for user in people]


def _with_proven_address(session: Session, email: str) -> Sequence[User]:
    same = func.normalized_address(User.email) == func.normalized_address(email)
    found = session.scalars(
        select(User).where(User.email_verified, same).order_by(User.id).with_for_update()
    ).all()
    if not found:
        raise NobodyFoundError("nobody with that verified address has signed in yet")
    return found


def _listed(session: Session, user: UserRow, role: Role, entry: Entry) -> UserRow:
    is_admin = role is Role.ADMIN
    by_address = {"role": role, "admin_by_address": is_admin}
    changed = update(User).where(User.id == user.id).values(**by_address)
    version = session.scalars(changed.returning(User.context_version)).one()
    _record(session, user, entry, "listed" if is_admin else "unlisted")
    return replace(user, role=role, admin_by_address=is_admin, context_version=version)


def _is_listed(user: User | UserRow, admin_emails: frozenset[str]) -> bool:
    return user.email_verified and _lowered(user.email) in admin_emails


def _lowered(email: str | None) -> str | None:
    return None if email is None else email.strip().lower()


def _record(session: Session, user: User | UserRow, entry: Entry, action: str) -> None:
    audit.record(session, entry, "admin_action", user_id=user.id, details={"action": action})
