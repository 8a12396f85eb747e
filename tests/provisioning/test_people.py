"""Remembering a person: what is not known never overwrites what is."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from models import User
from models.user import Role
from provisioning.identity import Identity
from provisioning.people import remember
from tests.cast import BOB, NOW, identity


def seen(session: Session, who: Identity, *, signs_in: bool = True) -> User:
    return remember(session, who, signs_in=signs_in, now=NOW)


def test_person_is_stored_once(session: Session) -> None:
    first = seen(session, identity(BOB))

    second = seen(session, identity(BOB))

    assert first.id == second.id
    assert session.scalars(select(func.count()).select_from(User)).one() == 1


def test_known_values_survive_an_identity_that_knows_nothing(session: Session) -> None:
    seen(session, identity(BOB))

    user = seen(session, Identity(BOB.clerk_id))

    assert (user.name, user.email, user.email_verified) == (BOB.name, BOB.email, True)


def test_new_values_replace_the_old_ones(session: Session) -> None:
    seen(session, identity(BOB))

    user = seen(session, replace(identity(BOB), name="Roberto", email="roberto@example.com"))

    assert (user.name, user.email) == ("Roberto", "roberto@example.com")


def test_verdict_is_kept_for_the_same_address_without_one(session: Session) -> None:
    seen(session, identity(BOB))

    user = seen(session, Identity(BOB.clerk_id, email=" BOB@example.com"))

    assert user.email_verified is True


def test_other_address_without_verdict_is_not_verified(session: Session) -> None:
    seen(session, identity(BOB))

    user = seen(session, Identity(BOB.clerk_id, email="other@example.com"))

    assert user.email_verified is False


def test_verification_can_be_lost(session: Session) -> None:
    seen(session, identity(BOB))

    assert seen(session, identity(BOB, verified=False)).email_verified is False


def test_logins_use_up_no_ids(session: Session) -> None:
    seen(session, identity(BOB))
    before = session.scalar(text("SELECT last_value FROM users_id_seq"))

    seen(session, identity(BOB))

    assert session.scalar(text("SELECT last_value FROM users_id_seq")) == before


def test_only_a_login_moves_the_last_login(session: Session) -> None:
    user = seen(session, identity(BOB))

    later = NOW + timedelta(hours=1)
    remember(session, identity(BOB), signs_in=False, now=later)

    assert (user.last_signed_in, user.updated_at) == (NOW, later)


def test_listed_address_makes_an_admin_and_leaving_the_list_ends_it(session: Session) -> None:
    listed = seen(session, replace(identity(BOB), listed_admin=True)).role

    unlisted = seen(session, replace(identity(BOB), listed_admin=False)).role

    assert (listed, unlisted) == (Role.ADMIN, Role.USER)


@pytest.mark.parametrize("listed", [True, False, None])
def test_granted_role_is_not_the_list_s_business(session: Session, listed: bool | None) -> None:
    session.add(User(clerk_id=BOB.clerk_id, role=Role.ADMIN))
    seen(session, replace(identity(BOB), listed_admin=listed))

    user = seen(session, replace(identity(BOB), listed_admin=False))

    assert user.role is Role.ADMIN


def test_unknown_listing_leaves_the_role_alone(session: Session) -> None:
    seen(session, replace(identity(BOB), listed_admin=True))

    assert seen(session, Identity(BOB.clerk_id)).role is Role.ADMIN
