"""Remembering a person: what is not known never overwrites what is."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from auth.identity import Identity
from models import ProvisioningAttempt, User
from models.provisioning_attempt import UNUSABLE_ANSWER
from provisioning.loading import upsert_user
from provisioning.queries import (
    incomplete_users,
    is_identity_complete,
    mark_identity_asked,
    mark_identity_incomplete,
)
from tests.support.users import BOB, NOW, identity_of


def seen(session: Session, who: Identity, *, signs_in: bool = True) -> User:
    return upsert_user(session, who, signs_in=signs_in, now=NOW)


def test_person_is_stored_once(session: Session) -> None:
    first = seen(session, identity_of(BOB))

    second = seen(session, identity_of(BOB))

    assert first.id == second.id
    assert session.scalars(select(func.count()).select_from(User)).one() == 1


def test_known_values_survive_an_identity_that_knows_nothing(session: Session) -> None:
    seen(session, identity_of(BOB))

    user = seen(session, Identity(BOB.clerk_id))

    assert (user.name, user.email, user.email_verified) == (BOB.name, BOB.email, True)


def test_new_values_replace_the_old_ones(session: Session) -> None:
    seen(session, identity_of(BOB))

    user = seen(session, replace(identity_of(BOB), name="Roberto", email="roberto@example.com"))

    assert (user.name, user.email) == ("Roberto", "roberto@example.com")


def test_verdict_is_kept_for_the_same_address_without_one(session: Session) -> None:
    seen(session, identity_of(BOB))

    user = seen(session, Identity(BOB.clerk_id, email=" BOB@example.com"))

    assert user.email_verified is True


def test_other_address_without_verdict_is_not_verified(session: Session) -> None:
    seen(session, identity_of(BOB))

    user = seen(session, Identity(BOB.clerk_id, email="other@example.com"))

    assert user.email_verified is False


def test_verification_can_be_lost(session: Session) -> None:
    seen(session, identity_of(BOB))

    assert seen(session, identity_of(BOB, verified=False)).email_verified is False


def test_logins_use_up_no_ids(session: Session) -> None:
    seen(session, identity_of(BOB))
    before = session.scalar(text("SELECT last_value FROM users_id_seq"))

    seen(session, identity_of(BOB))

    assert session.scalar(text("SELECT last_value FROM users_id_seq")) == before


def test_only_a_login_moves_the_last_login(session: Session) -> None:
    user = seen(session, identity_of(BOB))

    later = NOW + timedelta(hours=1)
    upsert_user(session, identity_of(BOB), signs_in=False, now=later)

    assert (user.last_signed_in, user.updated_at) == (NOW, later)


def test_older_news_fills_gaps_only(session: Session) -> None:
    seen(session, replace(identity_of(BOB), is_complete=True, as_of=NOW))

    older = Identity(
        BOB.clerk_id, "Roberto", "old@example.com", True, "https://x.example.com/b.png",
        is_complete=True, as_of=NOW - timedelta(seconds=1),
    )  # fmt: skip
    user = seen(session, older)

    assert (user.name, user.email) == (BOB.name, BOB.email)
    assert user.image_url == "https://x.example.com/b.png"


def test_news_of_the_same_moment_counts(session: Session) -> None:
    seen(session, replace(identity_of(BOB), is_complete=True, as_of=NOW))

    user = seen(session, Identity(BOB.clerk_id, "Roberto", as_of=NOW))

    assert user.name == "Roberto"


def test_whoever_says_nothing_is_no_older_news(session: Session) -> None:
    seen(session, replace(identity_of(BOB), is_complete=True, as_of=NOW))

    assert seen(session, Identity(BOB.clerk_id, "Roberto")).name == "Roberto"


def test_address_that_the_provider_has_dropped_is_no_longer_proven(session: Session) -> None:
    seen(session, identity_of(BOB))

    user = seen(session, Identity(BOB.clerk_id, email_verified=False, is_complete=True))

    assert (user.email, user.email_verified) == (BOB.email, False)


def test_provider_that_knows_nobody_takes_nothing_back(session: Session) -> None:
    seen(session, identity_of(BOB))

    user = seen(session, Identity(BOB.clerk_id, is_complete=True))

    assert (user.email, user.email_verified) == (BOB.email, True)


def test_completeness_is_remembered(session: Session) -> None:
    seen(session, Identity(BOB.clerk_id))
    before = is_identity_complete(session, BOB.clerk_id)

    seen(session, Identity(BOB.clerk_id, is_complete=True))

    assert (before, is_identity_complete(session, BOB.clerk_id)) == (False, True)


def test_newest_of_the_incomplete_come_first(session: Session) -> None:
    for clerk_id in ("first", "second", "third"):
        seen(session, Identity(clerk_id))
    seen(session, Identity("second", is_complete=True))

    assert incomplete_users(session, NOW, 2) == ["third", "first"]


def test_users_asked_about_in_vain_come_last_in_the_order_of_asking(session: Session) -> None:
    for clerk_id in ("first", "second", "third", "fourth"):
        seen(session, Identity(clerk_id))

    mark_identity_asked(session, "fourth", NOW + timedelta(minutes=1))
    mark_identity_asked(session, "second", NOW)

    assert incomplete_users(session, NOW, 9) == ["third", "first", "second", "fourth"]


@pytest.mark.parametrize("fact", [{"blocked_at": NOW}, {"deleted_at": NOW}], ids=str)
def test_users_who_are_shut_out_are_not_asked_about(
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
def test_user_with_a_record_is_asked_about_when_a_strange_answer_is_due_again(
    session: Session, error: str, state: str, now: datetime | None, expected: list[str]
) -> None:
    seen(session, Identity(BOB.clerk_id))
    times = {"first_failed_at": NOW, "last_failed_at": NOW}
    record = ProvisioningAttempt(
        clerk_id=BOB.clerk_id, state=state, attempts=1, error_class=error, **times
    )
    record.next_attempt_at = NOW + timedelta(minutes=5)
    session.add(record)

    assert incomplete_users(session, now, 9) == expected


def test_news_that_could_not_be_read_is_asked_for_again(session: Session) -> None:
    seen(session, Identity(BOB.clerk_id, is_complete=True))

    mark_identity_incomplete(session, BOB.clerk_id)

    assert is_identity_complete(session, BOB.clerk_id) is False


@pytest.mark.parametrize("column", ["identity_completed_at", "identity_asked_at"])
@pytest.mark.parametrize(("change", "expected"), [(None, 1), (-1, 1), (0, 0), (1, 0)])
def test_identity_that_is_made_older_ends_cached_contexts(
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
