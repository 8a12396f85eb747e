"""Admins by address and by hand: the list gives and takes what it gave, a grant stays."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from auth.identity import Identity
from models import AuditEvent, User
from models.user import Role
from provisioning.audit import Source
from provisioning.loading import upsert_and_load_user
from provisioning.profiles import UserRow
from provisioning.roles import RefusedAccountError, accounts, grant, revoke, sync_listed_admin
from tests.support.users import BOB, NOW, PAGE, identity_of

LISTED = frozenset({"bob@example.com"})
NOBODY: frozenset[str] = frozenset()
CLI = Source("cli")


def seen(session: Session, who: Identity, listed: frozenset[str] = LISTED) -> UserRow:
    user = upsert_and_load_user(session, who, signs_in=True, now=NOW).user
    sync_listed_admin(session, user, listed, source=PAGE)
    return upsert_and_load_user(session, who, signs_in=True, now=NOW).user


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
    before = seen(session, identity_of(BOB)).role

    assert (before, seen(session, identity_of(BOB), NOBODY).role) == (Role.ADMIN, Role.USER)


def test_role_goes_with_the_address(session: Session) -> None:
    seen(session, identity_of(BOB))

    assert seen(session, address("other@example.com")).role is Role.USER


def test_token_that_says_nothing_changes_nothing(session: Session) -> None:
    seen(session, identity_of(BOB))

    assert seen(session, Identity(BOB.clerk_id)).role is Role.ADMIN


def test_each_change_by_the_list_is_recorded_once(session: Session) -> None:
    for listed in (LISTED, LISTED, NOBODY, NOBODY):
        seen(session, identity_of(BOB), listed)

    details = session.scalars(select(AuditEvent.details).order_by(AuditEvent.id))
    assert list(details) == [{"action": "listed"}, {"action": "unlisted"}]


def only(session: Session, named: str) -> User:
    """The one account of that name."""
    [found] = accounts(session, named)
    return found


@pytest.mark.parametrize("listed", [LISTED, NOBODY])
def test_granted_role_is_not_the_list_s_business(session: Session, listed: frozenset[str]) -> None:
    seen(session, identity_of(BOB), NOBODY)
    grant(session, only(session, "BOB@example.com "), source=CLI)
    session.flush()  # the next statement is text
    seen(session, identity_of(BOB), listed)

    assert seen(session, identity_of(BOB), NOBODY).role is Role.ADMIN


def test_revoked_role_is_gone(session: Session) -> None:
    seen(session, identity_of(BOB), NOBODY)
    user = only(session, "bob@example.com")
    grant(session, user, source=CLI)

    revoke(session, user, source=CLI)

    session.flush()  # as above
    assert seen(session, identity_of(BOB), NOBODY).role is Role.USER


def test_account_is_found_by_address_id_and_clerk_id(session: Session) -> None:
    user_id = seen(session, identity_of(BOB)).id

    names = ("bob@example.com", str(user_id), BOB.clerk_id, "eva@example.com", "9" * 10, "9" * 40)
    assert [[user.id for user in accounts(session, named)] for named in names] == [
        *([user_id],) * 3,
        *([],) * 3,
    ]


def test_deleted_account_is_granted_nothing(session: Session) -> None:
    user = User(clerk_id="user_gone", deleted_at=NOW)

    with pytest.raises(RefusedAccountError):
        grant(session, user, source=CLI)

    assert user.role is not Role.ADMIN


@pytest.mark.parametrize(
    "look_alike",
    ["b\u00f6b@example.com", "ｂob@example.com", "bob@e\u0445ample.com", "bob@exampl\u212e.com"],
    ids=ascii,
)
def test_look_alike_of_a_listed_address_makes_no_admin(session: Session, look_alike: str) -> None:
    assert seen(session, address(look_alike)).role is Role.USER


def test_kelvin_sign_in_an_address_makes_no_admin(session: Session) -> None:
    listed = frozenset({"kate@example.com"})

    assert seen(session, address("\u212aate@example.com"), listed).role is Role.USER


def test_listed_domain_is_compared_by_its_a_labels(session: Session) -> None:
    listed = frozenset({"bob@xn--bcher-kva.de"})

    assert seen(session, address("Bob@bücher.de"), listed).role is Role.ADMIN
