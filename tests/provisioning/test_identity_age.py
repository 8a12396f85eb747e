"""When the provider is asked about a user again."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from models.user import Role
from provisioning.identity_age import AT_ONCE, Question, next_question
from provisioning.profiles import UserRow
from tests.support.users import ALICE, NOW

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
PROVEN = UserRow(
    1, ALICE.clerk_id, ALICE.name, ALICE.email, True, None,
    Role.USER, False, None, None, NOW, None, 1,
)  # fmt: skip
UNVERIFIED = replace(PROVEN, email_verified=False)
WITHOUT_ADDRESS = replace(UNVERIFIED, email=None)
NEVER_TOLD = replace(WITHOUT_ADDRESS, identity_completed_at=None)


@pytest.mark.parametrize("user", [UNVERIFIED, WITHOUT_ADDRESS, replace(PROVEN, email=None)])
@pytest.mark.parametrize(
    ("asked_at", "expected"),
    [(None, NOW + MINUTE), (NOW - HOUR, NOW + MINUTE), (NOW + HOUR, NOW + HOUR + MINUTE)],
)
def test_user_without_a_verified_address_is_asked_about_after_a_minute(
    user: UserRow, asked_at: datetime | None, expected: datetime
) -> None:
    user = replace(user, identity_asked_at=asked_at)

    assert next_question(user, DAY) == Question(expected, must_wait=True)


@pytest.mark.parametrize(("asked_at", "expected"), [(None, AT_ONCE), (NOW, NOW + MINUTE)])
def test_user_of_whom_nothing_was_told_is_asked_about_at_once_then_after_a_minute(
    asked_at: datetime | None, expected: datetime
) -> None:
    user = replace(NEVER_TOLD, identity_asked_at=asked_at)

    assert next_question(user, DAY) == Question(expected, must_wait=True)


@pytest.mark.parametrize(
    ("asked_at", "expected"),
    [
        (None, NOW + DAY),
        (NOW - HOUR, NOW + DAY),
        (NOW, NOW + DAY),
        (NOW + DAY, NOW + DAY + 5 * MINUTE),
    ],
)
def test_user_with_a_verified_address_is_asked_about_when_the_identity_is_old(
    asked_at: datetime | None, expected: datetime
) -> None:
    user = replace(PROVEN, identity_asked_at=asked_at)

    assert next_question(user, DAY) == Question(expected, must_wait=False)


@pytest.mark.parametrize("denial", [{"blocked_at": NOW}, {"deleted_at": NOW}], ids=str)
@pytest.mark.parametrize("user", [PROVEN, UNVERIFIED, NEVER_TOLD])
def test_denied_user_is_never_asked_about(user: UserRow, denial: dict[str, datetime]) -> None:
    changes: dict[str, object] = {**denial}

    assert next_question(replace(user, **changes), DAY) is None  # type: ignore[arg-type] # of one type


def test_short_age_is_kept_after_an_answer() -> None:
    answered = replace(PROVEN, identity_asked_at=NOW)

    assert next_question(answered, MINUTE) == Question(NOW + MINUTE, must_wait=False)


def test_pause_after_no_answer_is_no_longer_than_the_age() -> None:
    unanswered = replace(PROVEN, identity_asked_at=NOW + HOUR)

    assert next_question(unanswered, MINUTE) == Question(NOW + HOUR + MINUTE, must_wait=False)


def test_question_is_due_from_its_moment_on() -> None:
    question = Question(NOW, must_wait=True)

    assert (question.is_due(NOW - MINUTE), question.is_due(NOW)) == (False, True)
