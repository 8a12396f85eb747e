"""The admin role: from the list of addresses in ADMIN_EMAILS, or granted by a command."""

import re
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from auth.identity import Identity
from core.email_address import normalize_address
from models import User
from models.people import Role
from provisioning import audit
from provisioning.audit import Source
from provisioning.profiles import UserRow

ID = re.compile("[0-9]{1,10}")
LARGEST_ID = 2_147_483_647  # of the type integer


class DeletedAccountError(Exception):
    """The account cannot become an admin; the message says why."""


def sync_listed_admin(
    session: Session, user: UserRow, admin_emails: frozenset[str], *, source: Source
) -> UserRow:
    """Set or remove the listed role of a user by ADMIN_EMAILS; return the user with it.

    The role depends on the verified primary address: it is removed when the address or the list has
    changed. A granted role does not depend on the list (docs/reference/contract.md#access).
    """
    if is_role_current(user, admin_emails):
        return user
    is_admin = is_listed(user, admin_emails)
    role = Role.ADMIN if is_admin else Role.USER
    statement = update(User).where(User.id == user.id).values(role=role, admin_by_address=is_admin)
    version = session.scalars(statement.returning(User.context_version)).one()
    _record(session, user, source, "listed" if is_admin else "unlisted")
    return replace(user, role=role, admin_by_address=is_admin, context_version=version)


def is_role_current(user: User | UserRow, admin_emails: frozenset[str]) -> bool:
    """Whether `sync_listed_admin` would change nothing."""
    return user.is_admin if is_listed(user, admin_emails) else not user.admin_by_address


def find_users(session: Session, identifier: str) -> Sequence[User]:
    """Return the users with this id, Clerk id or address, verified or not; locked, by id."""
    if "@" in identifier:
        is_match = func.normalized_address(User.email) == func.normalized_address(identifier)
    elif ID.fullmatch(identifier) and int(identifier) <= LARGEST_ID:
        is_match = User.id == int(identifier)
    else:
        is_match = User.clerk_id == identifier
    return session.scalars(select(User).where(is_match).order_by(User.id).with_for_update()).all()


def grant(session: Session, user: User, *, source: Source) -> None:
    """Give this user the admin role; raises DeletedAccountError for a deleted account."""
    if user.deleted_at is not None:
        raise DeletedAccountError("the account has been deleted at Clerk")
    user.role, user.admin_by_address = Role.ADMIN, False
    _record(session, user, source, "grant")


def revoke(session: Session, user: User, *, source: Source) -> None:
    """Remove the admin role; a user listed in ADMIN_EMAILS gets it again at the next request."""
    user.role, user.admin_by_address = Role.USER, False
    _record(session, user, source, "revoke")


def is_listed(user: User | UserRow | Identity, admin_emails: frozenset[str]) -> bool:
    """Whether the user has a verified address in the list of normalized addresses."""
    return bool(user.email_verified) and normalize_address(user.email or "") in admin_emails


def _record(session: Session, user: User | UserRow, source: Source, action: str) -> None:
    audit.record(session, source, "admin_action", user_id=user.id, details={"action": action})
