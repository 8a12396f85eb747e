"""Admins by address and by hand: the list gives and takes what it gave, a grant stays."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import AuditEvent
from models.user import Role
from provisioning.audit import Entry
from provisioning.encounter import meet
from provisioning.identity import Identity
from provisioning.roles import NobodyFoundError, follow_list, grant, revoke
from provisioning.rows import UserRow
from tests.cast import AT_THE_DOOR, BOB, NOW, identity

LISTED = frozenset({"bob@example.com"})
NOBODY: frozenset[str] = frozenset()
CLI = Entry("cli")


def seen(session: Session, who: Identity, listed: frozenset[str] = LISTED) -> UserRow:
    user = meet(session, who, signs_in=True, now=NOW).user
    follow_list(session, user, listed, entry=AT_THE_DOOR)
    return meet(session, who, signs_in=True, now=NOW).user


def address(email: str, *, verified: bool = True) -> Identity:
    return Identity(BOB.clerk_id, email=email, email_verified=verified)


@pytest.mark.parametrize(
    ("who", "role"),
    [
        (address("bob@example.com"), Role.ADMIN),
        (address(" Bob@Example.COM "), Role.ADMIN),
        (address("bob@example.com", verified=False), Role.USER),
        (address("bob@example.com.br"), Role.USER),
        (address("xbob@example.com"), Role.USER),
        (Identity(BOB.clerk_id), Role.USER),
    ],
)
def test_listed_and_verified_address_makes_an_admin(
    session: Session, who: Identity, role: Role
) -> None:
    assert seen(session, who).role is role


def test_leaving_the_list_ends_it(session: Session) -> None:
    before = seen(session, identity(BOB)).role

    assert (before, seen(session, identity(BOB), NOBODY).role) == (Role.ADMIN, Role.USER)


def test_role_goes_with_the_address(session: Session) -> None:
    seen(session, identity(BOB))

    assert seen(session, address("other@example.com")).role is Role.USER


def test_token_that_says_nothing_changes_nothing(session: Session) -> None:
    seen(session, identity(BOB))

    assert seen(session, Identity(BOB.clerk_id)).role is Role.ADMIN


def test_each_change_by_the_list_is_recorded_once(session: Session) -> None:
    for listed in (LISTED, LISTED, NOBODY, NOBODY):
        seen(session, identity(BOB), listed)

    details = session.scalars(select(AuditEvent.details).order_by(AuditEvent.id))
    assert list(details) == [{"action": "listed"}, {"action": "unlisted"}]


@pytest.mark.parametrize("listed", [LISTED, NOBODY])
def test_granted_role_is_not_the_list_s_business(session: Session, listed: frozenset[str]) -> None:
    seen(session, identity(BOB), NOBODY)
    granted = grant(session, "BOB@example.com ", entry=CLI)
    seen(session, identity(BOB), listed)

    assert granted == [BOB.clerk_id]
    assert seen(session, identity(BOB), NOBODY).role is Role.ADMIN


def test_revoked_role_is_gone(session: Session) -> None:
    seen(session, identity(BOB), NOBODY)
    grant(session, "bob@example.com", entry=CLI)

    revoke(session, "bob@example.com", entry=CLI)

    assert seen(session, identity(BOB), NOBODY).role is Role.USER


def test_unproven_address_is_granted_nothing(session: Session) -> None:
    seen(session, identity(BOB, verified=False))

    with pytest.raises(NobodyFoundError):
        grant(session, "bob@example.com", entry=CLI)
