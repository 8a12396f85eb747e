"""Upserts of users keep known values; reads select the identities to request."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from auth.identity import Identity
from models import ProvisioningAttempt, User
from models.background import UNUSABLE_ANSWER
from provisioning.ensure import upsert_user
from provisioning.identity_lookups import (
    incomplete_users,
    mark_identity_asked,
    mark_identity_incomplete,
)
from tests.support.users import BOB, NOW, identity_of


def upsert(session: Session, identity: Identity, *, signs_in: bool = True) -> User:
    return upsert_user(session, identity, signs_in=signs_in, now=NOW)


def test_user_is_stored_once(session: Session) -> None:
    first = upsert(session, identity_of(BOB))

    second = upsert(session, identity_of(BOB))

    assert first.id == second.id
    assert session.scalars(select(func.count()).select_from(User)).one() == 1


def test_empty_identity_overwrites_no_known_value(session: Session) -> None:
    upsert(session, identity_of(BOB))

    user = upsert(session, Identity(BOB.clerk_id))

    assert (user.name, user.email, user.email_verified) == (BOB.name, BOB.email, True)


def test_new_values_replace_old_values(session: Session) -> None:
    upsert(session, identity_of(BOB))

    user = upsert(session, replace(identity_of(BOB), name="Roberto", email="roberto@example.com"))

    assert (user.name, user.email) == ("Roberto", "roberto@example.com")


def test_verification_is_kept_for_the_same_address(session: Session) -> None:
    upsert(session, identity_of(BOB))

    user = upsert(session, Identity(BOB.clerk_id, email=" BOB@example.com"))

    assert user.email_verified is True


def test_other_address_of_unknown_verification_is_not_verified(session: Session) -> None:
    upsert(session, identity_of(BOB))

    user = upsert(session, Identity(BOB.clerk_id, email="other@example.com"))

    assert user.email_verified is False


def test_verification_can_be_lost(session: Session) -> None:
    upsert(session, identity_of(BOB))

    assert upsert(session, identity_of(BOB, verified=False)).email_verified is False


def test_second_login_consumes_no_id(session: Session) -> None:
    upsert(session, identity_of(BOB))
    before = session.scalar(text("SELECT last_value FROM users_id_seq"))

    upsert(session, identity_of(BOB))

    assert session.scalar(text("SELECT last_value FROM users_id_seq")) == before


def test_only_a_login_updates_the_last_login(session: Session) -> None:
    user = upsert(session, identity_of(BOB))

    later = NOW + timedelta(hours=1)
    upsert_user(session, identity_of(BOB), signs_in=False, now=later)

    assert (user.last_signed_in, user.updated_at) == (NOW, later)


def test_older_identity_fills_missing_values_only(session: Session) -> None:
    upsert(session, replace(identity_of(BOB), is_complete=True, as_of=NOW))

    older = Identity(
        BOB.clerk_id, "Roberto", "old@example.com", True, "https://x.example.com/b.png",
        is_complete=True, as_of=NOW - timedelta(seconds=1),
    )  # fmt: skip
    user = upsert(session, older)

    assert (user.name, user.email) == (BOB.name, BOB.email)
    assert user.image_url == "https://x.example.com/b.png"


def test_identity_of_the_same_time_replaces_values(session: Session) -> None:
    upsert(session, replace(identity_of(BOB), is_complete=True, as_of=NOW))

    user = upsert(session, Identity(BOB.clerk_id, "Roberto", as_of=NOW))

    assert user.name == "Roberto"


def test_identity_without_time_replaces_values(session: Session) -> None:
    upsert(session, replace(identity_of(BOB), is_complete=True, as_of=NOW))

    assert upsert(session, Identity(BOB.clerk_id, "Roberto")).name == "Roberto"


def test_address_removed_at_clerk_is_no_longer_verified(session: Session) -> None:
    upsert(session, identity_of(BOB))

    user = upsert(session, Identity(BOB.clerk_id, email_verified=False, is_complete=True))

    assert (user.email, user.email_verified) == (BOB.email, False)


def test_complete_identity_without_values_keeps_the_verification(session: Session) -> None:
    upsert(session, identity_of(BOB))

    user = upsert(session, Identity(BOB.clerk_id, is_complete=True))

    assert (user.email, user.email_verified) == (BOB.email, True)


def test_completeness_is_stored(session: Session) -> None:
    before = upsert(session, Identity(BOB.clerk_id)).identity_completed_at

    after = upsert(session, Identity(BOB.clerk_id, is_complete=True)).identity_completed_at

    assert (before, after) == (None, NOW)


def test_incomplete_users_are_listed_newest_first(session: Session) -> None:
    for clerk_id in ("first", "second", "third"):
        upsert(session, Identity(clerk_id))
    upsert(session, Identity("second", is_complete=True))

    assert incomplete_users(session, NOW, 2) == ["third", "first"]


def test_incomplete_users_requested_before_are_listed_last(session: Session) -> None:
    for clerk_id in ("first", "second", "third", "fourth"):
        upsert(session, Identity(clerk_id))

    mark_identity_asked(session, "fourth", NOW + timedelta(minutes=1))
    mark_identity_asked(session, "second", NOW)

    assert incomplete_users(session, NOW, 9) == ["third", "first", "second", "fourth"]


@pytest.mark.parametrize("fact", [{"blocked_at": NOW}, {"deleted_at": NOW}], ids=str)
def test_blocked_and_deleted_users_are_not_requested(
    session: Session, fact: dict[str, datetime]
) -> None:
    session.add(User(clerk_id=BOB.clerk_id, **fact))

    assert incomplete_users(session, NOW, 9) == []


@pytest.mark.parametrize(
    ("error", "state", "now", "expected"),
    [
        (UNUSABLE_ANSWER, "pending", NOW, []),
        (UNUSABLE_ANSWER, "pending", NOW + timedelta(hours=1), [BOB.clerk_id]),
        (UNUSABLE_ANSWER, "pending", None, [BOB.clerk_id]),
        (UNUSABLE_ANSWER, "dead", None, []),
        ("IntegrityError", "pending", None, []),
    ],
)
def test_user_with_an_attempt_is_listed_only_when_an_unusable_answer_is_due(
    session: Session, error: str, state: str, now: datetime | None, expected: list[str]
) -> None:
    upsert(session, Identity(BOB.clerk_id))
    times = {"first_failed_at": NOW, "last_failed_at": NOW}
    attempt = ProvisioningAttempt(
        clerk_id=BOB.clerk_id, state=state, attempts=1, error_class=error, **times
    )
    attempt.next_attempt_at = NOW + timedelta(minutes=5)
    session.add(attempt)

    assert incomplete_users(session, now, 9) == expected


def test_marked_identity_is_incomplete_again(session: Session) -> None:
    user = upsert(session, Identity(BOB.clerk_id, is_complete=True))

    mark_identity_incomplete(session, BOB.clerk_id)

    session.refresh(user)
    assert user.identity_completed_at is None


@pytest.mark.parametrize("column", ["identity_completed_at", "identity_asked_at"])
@pytest.mark.parametrize(("change", "expected"), [(None, 1), (-1, 1), (0, 0), (1, 0)])
def test_moving_identity_times_back_bumps_the_context_version(
    session: Session, column: str, change: int | None, expected: int
) -> None:
    user = User(clerk_id=BOB.clerk_id, **{column: NOW})
    session.add(user)
    session.flush()
    before = user.context_version

    later = None if change is None else NOW + timedelta(minutes=change)
    session.execute(update(User).values({column: later}))

    session.refresh(user)
    assert user.context_version - before == expected
