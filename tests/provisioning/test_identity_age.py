"""When the identity of a user is requested from Clerk again."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from models.people import Role
from provisioning.identity_lookups import AT_ONCE, NextLookup, next_lookup
from provisioning.profiles import UserRow
from tests.support.users import ALICE, NOW

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
VERIFIED = UserRow(
    1, ALICE.clerk_id, ALICE.name, ALICE.email, True, None,
    Role.USER, False, None, None, None, NOW, None, 1,
)  # fmt: skip
UNVERIFIED = replace(VERIFIED, email_verified=False)
WITHOUT_ADDRESS = replace(UNVERIFIED, email=None)
NEVER_COMPLETED = replace(WITHOUT_ADDRESS, identity_completed_at=None)


@pytest.mark.parametrize("user", [UNVERIFIED, WITHOUT_ADDRESS, replace(VERIFIED, email=None)])
@pytest.mark.parametrize(
    ("asked_at", "expected"),
    [(None, NOW + MINUTE), (NOW - HOUR, NOW + MINUTE), (NOW + HOUR, NOW + HOUR + MINUTE)],
)
def test_identity_without_a_verified_address_is_requested_after_a_minute(
    user: UserRow, asked_at: datetime | None, expected: datetime
) -> None:
    user = replace(user, identity_asked_at=asked_at)

    assert next_lookup(user, DAY) == NextLookup(expected, must_wait=True)


@pytest.mark.parametrize(("asked_at", "expected"), [(None, AT_ONCE), (NOW, NOW + MINUTE)])
def test_incomplete_identity_is_requested_at_once_then_after_a_minute(
    asked_at: datetime | None, expected: datetime
) -> None:
    user = replace(NEVER_COMPLETED, identity_asked_at=asked_at)

    assert next_lookup(user, DAY) == NextLookup(expected, must_wait=True)


@pytest.mark.parametrize(
    ("asked_at", "expected"),
    [
        (None, NOW + DAY),
        (NOW - HOUR, NOW + DAY),
        (NOW, NOW + DAY),
        (NOW + DAY, NOW + DAY + 5 * MINUTE),
    ],
)
def test_identity_with_a_verified_address_is_requested_when_it_is_old(
    asked_at: datetime | None, expected: datetime
) -> None:
    user = replace(VERIFIED, identity_asked_at=asked_at)

    assert next_lookup(user, DAY) == NextLookup(expected, must_wait=False)


@pytest.mark.parametrize("denial", [{"blocked_at": NOW}, {"deleted_at": NOW}], ids=str)
@pytest.mark.parametrize("user", [VERIFIED, UNVERIFIED, NEVER_COMPLETED])
def test_identity_of_a_denied_user_is_never_requested(
    user: UserRow, denial: dict[str, datetime]
) -> None:
    changes: dict[str, object] = {**denial}

    assert next_lookup(replace(user, **changes), DAY) is None  # type: ignore[arg-type] # of one type


def test_short_maximum_age_applies_after_an_answer() -> None:
    answered = replace(VERIFIED, identity_asked_at=NOW)

    assert next_lookup(answered, MINUTE) == NextLookup(NOW + MINUTE, must_wait=False)


def test_pause_after_no_answer_is_at_most_the_maximum_age() -> None:
    unanswered = replace(VERIFIED, identity_asked_at=NOW + HOUR)

    assert next_lookup(unanswered, MINUTE) == NextLookup(NOW + HOUR + MINUTE, must_wait=False)


def test_request_is_due_from_its_time_on() -> None:
    question = NextLookup(NOW, must_wait=True)

    assert (question.is_due(NOW - MINUTE), question.is_due(NOW)) == (False, True)
