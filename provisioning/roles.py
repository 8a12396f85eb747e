"""Who is an admin: whoever the operator lists by address, and whoever was granted it by hand."""

import re
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from core.email_address import normalize_address
from models import User
from models.user import Role
from provisioning import audit
from provisioning.audit import Source
from provisioning.profiles import UserRow

ID = re.compile("[0-9]{1,10}")
LARGEST_ID = 2_147_483_647  # of the type integer


class RefusedAccountError(Exception):
    """The one account that is meant cannot be an admin; the message says why."""


def sync_listed_admin(
    session: Session, user: UserRow, admin_emails: frozenset[str], *, source: Source
) -> UserRow:
    """Bring a person's role in line with ADMIN_EMAILS (CONTRACT section 2); returns them with it.

    The role comes with the verified primary address and goes with it, be it that the address or the
    list has changed. A granted role is not the list's business.
    """
    should_be_admin = is_listed(user, admin_emails)
    if should_be_admin and not user.is_admin:
        return _listed(session, user, Role.ADMIN, source)
    if user.admin_by_address and not should_be_admin:
        return _listed(session, user, Role.USER, source)
    return user


def is_role_current(user: User | UserRow, admin_emails: frozenset[str]) -> bool:
    """Whether `sync_listed_admin` has nothing to do."""
    should_be_admin = is_listed(user, admin_emails)
    return user.is_admin if should_be_admin else not user.admin_by_address


def accounts(session: Session, named: str) -> Sequence[User]:
    """Return the accounts that an id, a Clerk id or an address names, by id, locked.

    Of an address every account, verified or not.
    """
    if "@" in named:
        is_named = func.normalized_address(User.email) == func.normalized_address(named)
    elif ID.fullmatch(named) and int(named) <= LARGEST_ID:
        is_named = User.id == int(named)
    else:
        is_named = User.clerk_id == named
    return session.scalars(select(User).where(is_named).order_by(User.id).with_for_update()).all()


def grant(session: Session, user: User, *, source: Source) -> None:
    """Make this user an admin, for good. Raises RefusedAccountError for a deleted account."""
    if user.deleted_at is not None:
        raise RefusedAccountError("the account has been deleted at Clerk")
    user.role, user.admin_by_address = Role.ADMIN, False
    _record(session, user, source, "grant")


def revoke(session: Session, user: User, *, source: Source) -> None:
    """Take the role from this user; one who is listed in ADMIN_EMAILS has it again at the next
    request.
    """
    user.role, user.admin_by_address = Role.USER, False
    _record(session, user, source, "revoke")


def _listed(session: Session, user: UserRow, role: Role, source: Source) -> UserRow:
    is_admin = role is Role.ADMIN
    by_address = {"role": role, "admin_by_address": is_admin}
    changed = update(User).where(User.id == user.id).values(**by_address)
    version = session.scalars(changed.returning(User.context_version)).one()
    _record(session, user, source, "listed" if is_admin else "unlisted")
    return replace(user, role=role, admin_by_address=is_admin, context_version=version)


def is_listed(user: User | UserRow, admin_emails: frozenset[str]) -> bool:
    """Whether the user has proven an address of the list, which holds keys of addresses."""
    return user.email_verified and normalize_address(user.email or "") in admin_emails


def _record(session: Session, user: User | UserRow, source: Source, action: str) -> None:
    audit.record(session, source, "admin_action", user_id=user.id, details={"action": action})
