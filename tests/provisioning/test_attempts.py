"""The memory of failures: counted in the background, capped, kept until the profile is found."""

from datetime import timedelta

import pytest
from sqlalchemy import delete, select
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from models import Mentorado, ProvisioningAttempt, User
from provisioning import attempts
from provisioning.attempts import Failure, RetryPolicy, UnknownAttemptError
from provisioning.audit import Entry
from tests.cast import ALICE, AT_THE_DOOR, BOB, NOW

POLICY = RetryPolicy(max_attempts=3, first_pause=timedelta(seconds=60))
BACKGROUND = Entry("sweep")
BROKEN = Failure("IntegrityError", "23514")
MINUTE = timedelta(minutes=1)


def fail(
    session: Session, times: int = 1, entry: Entry = BACKGROUND, who: str = BOB.clerk_id
) -> ProvisioningAttempt:
    for count in range(times):
        attempt = attempts.record_failure(
            session,
            who,
            BROKEN,
            entry=entry,
            now=NOW + count * MINUTE,
            policy=POLICY,
            dice=1.0,
        )
        session.flush()  # as the end of its transaction would
    return attempt


@pytest.mark.parametrize(
    ("count", "dice", "seconds"),
    [(0, 1.0, 60), (0, 0.0, 30), (1, 1.0, 120), (3, 0.5, 360), (6, 1.0, 3600), (999, 1.0, 3600)],
)
def test_pause_doubles_up_to_its_cap_with_the_later_half_at_random(
    count: int, dice: float, seconds: int
) -> None:
    assert POLICY.pause_after(count, dice) == timedelta(seconds=seconds)


def test_first_failure_at_the_door_is_a_record_that_counts_no_attempt(session: Session) -> None:
    attempt = fail(session, entry=AT_THE_DOOR)

    assert (attempt.attempts, attempt.state, attempt.request_id) == (
        0,
        "pending",
        AT_THE_DOOR.request_id,
    )
    assert (attempt.error_class, attempt.error_code) == ("IntegrityError", "23514")


def test_reloading_a_page_never_makes_a_letter_dead(session: Session) -> None:
    attempt = fail(session, times=20, entry=AT_THE_DOOR)

    assert (attempt.attempts, attempt.state) == (0, "pending")


def test_reloading_a_page_does_not_put_off_the_next_attempt(session: Session) -> None:
    first = fail(session, entry=AT_THE_DOOR).next_attempt_at

    assert fail(session, times=5, entry=AT_THE_DOOR).next_attempt_at == first


def test_times_of_the_first_and_the_last_failure_are_kept(session: Session) -> None:
    attempt = fail(session, times=3)

    assert (attempt.first_failed_at, attempt.last_failed_at) == (NOW, NOW + 2 * MINUTE)


@pytest.mark.parametrize(("times", "state"), [(2, "pending"), (3, "dead"), (4, "dead")])
def test_letter_is_dead_after_so_many_attempts_of_the_background(
    session: Session, times: int, state: str
) -> None:
    assert fail(session, times).state == state


def test_failure_at_the_door_does_not_revive_a_dead_letter(session: Session) -> None:
    fail(session, times=3)

    assert fail(session, entry=AT_THE_DOOR).state == "dead"


def test_next_attempt_is_later_each_time(session: Session) -> None:
    assert fail(session, times=2).next_attempt_at == NOW + MINUTE + 4 * MINUTE


def test_only_what_is_due_is_due(session: Session) -> None:
    attempt = fail(session)

    before = attempts.due(session, NOW, 0, 9)
    then = attempts.due(session, NOW + 2 * MINUTE, 0, 9)

    assert (before, then) == ([], [(attempt.id, BOB.clerk_id)])


def test_whoever_sweeps_by_hand_tries_also_what_is_not_due(session: Session) -> None:
    attempt = fail(session)

    assert attempts.due(session, None, 0, 9) == [(attempt.id, BOB.clerk_id)]


def test_dead_letters_are_not_tried_again_by_themselves(session: Session) -> None:
    fail(session, times=3)

    assert attempts.due(session, None, 0, 9) == []


def test_record_goes_when_the_profile_is_found(session: Session, alice: Mentorado) -> None:
    fail(session, who=ALICE.clerk_id)
    fail(session)

    helped = attempts.forget_the_helped(session)

    left = session.scalars(select(ProvisioningAttempt.clerk_id)).all()
    assert (helped, left) == (1, [BOB.clerk_id])


def test_record_of_a_person_without_profile_stays(session: Session) -> None:
    session.add(User(clerk_id=BOB.clerk_id))
    fail(session)

    assert attempts.forget_the_helped(session) == 0


def test_dead_letter_names_its_user_where_there_is_one(session: Session) -> None:
    user = User(clerk_id=ALICE.clerk_id)
    session.add(user)
    fail(session, 3, who=ALICE.clerk_id)
    fail(session, 3)

    found = attempts.dead_letters(session, after_id=0, limit=9)

    assert [user_id for _, user_id in found] == [user.id, None]


def test_letter_that_is_not_dead_is_not_found_among_the_dead(session: Session) -> None:
    pending = fail(session)

    with pytest.raises(UnknownAttemptError):
        attempts.dead_letter(session, pending.id)


def test_revived_letter_is_due_at_once_and_counts_anew(session: Session) -> None:
    dead = fail(session, times=3)

    attempts.revive(session, BOB.clerk_id, NOW)

    assert (dead.state, dead.attempts) == ("pending", 0)
    assert attempts.due(session, NOW, 0, 9) == [(dead.id, BOB.clerk_id)]


def test_letter_that_is_dropped_before_it_is_revived_is_not_missed(
    session: Session, connection: Connection
) -> None:
    fail(session, times=3)
    attempts.revive(session, BOB.clerk_id, NOW)

    connection.execute(delete(ProvisioningAttempt))

    session.commit()  # as the end of the admin's request does
    assert attempts.due(session, NOW, 0, 9) == []
