"""Admin roles: a listed address gains and loses the role, a grant stays."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from auth.identity import Identity
from models import AuditEvent, User
from models.people import Role
from provisioning.audit import Source
from provisioning.ensure import upsert_and_load_user
from provisioning.profiles import UserRow
from provisioning.roles import DeletedAccountError, find_users, grant, revoke, sync_listed_admin
from tests.support.users import BOB, NOW, PAGE, identity_of

LISTED = frozenset({"bob@example.com"})
EMPTY_LIST: frozenset[str] = frozenset()
CLI = Source("cli")


def sign_in(session: Session, identity: Identity, listed: frozenset[str] = LISTED) -> UserRow:
    user = upsert_and_load_user(session, identity, signs_in=True, now=NOW).user
    sync_listed_admin(session, user, listed, source=PAGE)
    return upsert_and_load_user(session, identity, signs_in=True, now=NOW).user


def identity_with(email: str, *, verified: bool = True) -> Identity:
    return Identity(BOB.clerk_id, email=email, email_verified=verified)


@pytest.mark.parametrize(
    ("identity", "role"),
    [
        (identity_with("bob@example.com"), Role.ADMIN),
        (identity_with(" Bob@Example.COM "), Role.ADMIN),
        (identity_with("bob@example.com", verified=False), Role.USER),
        (identity_with("bob@example.com.br"), Role.USER),
        (identity_with("xbob@example.com"), Role.USER),
        (Identity(BOB.clerk_id), Role.USER),
    ],
)
def test_listed_and_verified_address_makes_an_admin(
    session: Session, identity: Identity, role: Role
) -> None:
    assert sign_in(session, identity).role is role


def test_removal_from_the_list_ends_the_role(session: Session) -> None:
    before = sign_in(session, identity_of(BOB)).role

    assert (before, sign_in(session, identity_of(BOB), EMPTY_LIST).role) == (Role.ADMIN, Role.USER)


def test_role_ends_when_the_address_changes(session: Session) -> None:
    sign_in(session, identity_of(BOB))

    assert sign_in(session, identity_with("other@example.com")).role is Role.USER


def test_identity_without_address_keeps_the_role(session: Session) -> None:
    sign_in(session, identity_of(BOB))

    assert sign_in(session, Identity(BOB.clerk_id)).role is Role.ADMIN


def test_each_role_change_by_the_list_is_audited_once(session: Session) -> None:
    for listed in (LISTED, LISTED, EMPTY_LIST, EMPTY_LIST):
        sign_in(session, identity_of(BOB), listed)

    details = session.scalars(select(AuditEvent.details).order_by(AuditEvent.id))
    assert list(details) == [{"action": "listed"}, {"action": "unlisted"}]


def find_account(session: Session, named: str) -> User:
    """Return the one account that matches."""
    [found] = find_users(session, named)
    return found


@pytest.mark.parametrize("listed", [LISTED, EMPTY_LIST])
def test_granted_role_does_not_depend_on_the_list(session: Session, listed: frozenset[str]) -> None:
    sign_in(session, identity_of(BOB), EMPTY_LIST)
    grant(session, find_account(session, "BOB@example.com "), source=CLI)
    session.flush()
    sign_in(session, identity_of(BOB), listed)

    assert sign_in(session, identity_of(BOB), EMPTY_LIST).role is Role.ADMIN


def test_revoked_role_is_gone(session: Session) -> None:
    sign_in(session, identity_of(BOB), EMPTY_LIST)
    user = find_account(session, "bob@example.com")
    grant(session, user, source=CLI)

    revoke(session, user, source=CLI)

    session.flush()
    assert sign_in(session, identity_of(BOB), EMPTY_LIST).role is Role.USER


def test_account_is_found_by_address_id_and_clerk_id(session: Session) -> None:
    user_id = sign_in(session, identity_of(BOB)).id

    names = ("bob@example.com", str(user_id), BOB.clerk_id, "eva@example.com", "9" * 10, "9" * 40)
    assert [[user.id for user in find_users(session, named)] for named in names] == [
        *([user_id],) * 3,
        *([],) * 3,
    ]


def test_deleted_account_cannot_be_granted_the_role(session: Session) -> None:
    user = User(clerk_id="user_gone", deleted_at=NOW)

    with pytest.raises(DeletedAccountError):
        grant(session, user, source=CLI)

    assert user.role is not Role.ADMIN


@pytest.mark.parametrize(
    "look_alike",
    ["b\u00f6b@example.com", "ｂob@example.com", "bob@e\u0445ample.com", "bob@exampl\u212e.com"],
    ids=ascii,
)
def test_look_alike_of_a_listed_address_is_no_admin(session: Session, look_alike: str) -> None:
    assert sign_in(session, identity_with(look_alike)).role is Role.USER


def test_kelvin_sign_in_an_address_is_no_admin(session: Session) -> None:
    listed = frozenset({"kate@example.com"})

    assert sign_in(session, identity_with("\u212aate@example.com"), listed).role is Role.USER


def test_listed_domain_is_compared_by_its_a_labels(session: Session) -> None:
    listed = frozenset({"bob@xn--bcher-kva.de"})

    assert sign_in(session, identity_with("Bob@bücher.de"), listed).role is Role.ADMIN
