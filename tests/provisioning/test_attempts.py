"""The memory of failures: counted in the background, capped, kept until the profile is found."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import delete, select
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from models import Mentorado, ProvisioningAttempt, User
from models.mentorado import Turma
from models.provisioning_attempt import UNUSABLE_ANSWER
from models.user import Role
from provisioning import attempts
from provisioning.attempts import Failure, RetryPolicy, UnknownAttemptError
from provisioning.audit import Source
from provisioning.rules import Rules
from tests.support.users import ALICE, BOB, NOW, PAGE

POLICY = RetryPolicy(max_attempts=3, first_pause=timedelta(seconds=60))
BACKGROUND = Source("sweep")
BROKEN = Failure("IntegrityError", "23514")
STRANGE = Failure(UNUSABLE_ANSWER, "422")
OPEN = Rules()
MINUTE = timedelta(minutes=1)


def records(session: Session) -> list[str]:
    """Clerk ids of those who have a record."""
    return list(session.scalars(select(ProvisioningAttempt.clerk_id)))


def add_bob(session: Session, *, waits: bool = False) -> None:
    """Bob, with a proven address, for whom a profile may wait."""
    session.add(User(clerk_id=BOB.clerk_id, email=BOB.email, email_verified=True))
    if waits:
        session.add(Mentorado(nome_completo="Bob", email=BOB.email, turma=Turma.NEON))
    session.flush()  # the queries must find them


def fail(
    session: Session,
    times: int = 1,
    source: Source = BACKGROUND,
    who: str = BOB.clerk_id,
    failure: Failure = BROKEN,
) -> ProvisioningAttempt:
    for count in range(times):
        attempt = attempts.record_failure(
            session,
            who,
            failure,
            source=source,
            now=NOW + count * MINUTE,
            policy=POLICY,
            dice=1.0,
        )
        session.flush()  # as the end of its transaction would
    return attempt


def due(session: Session, now: datetime | None) -> list[str]:
    """Who is to be tried again, in a run that begins long after all failures."""
    later = NOW + timedelta(days=9)
    found = attempts.due(session, now=now, before=later, after=None, limit=9)
    assert attempts.count_due(session, now) == len(found)
    return [clerk_id for _, clerk_id in found]


@pytest.mark.parametrize(
    ("count", "dice", "seconds"),
    [(0, 1.0, 60), (0, 0.0, 30), (1, 1.0, 120), (3, 0.5, 360), (6, 1.0, 3600), (999, 1.0, 3600)],
)
def test_pause_doubles_up_to_its_cap_with_the_later_half_at_random(
    count: int, dice: float, seconds: int
) -> None:
    assert POLICY.pause_after(count, dice) == timedelta(seconds=seconds)


def test_first_failure_at_the_door_is_a_record_that_counts_no_attempt(session: Session) -> None:
    attempt = fail(session, source=PAGE)

    assert (attempt.attempts, attempt.state, attempt.request_id) == (
        0,
        "pending",
        PAGE.request_id,
    )
    assert (attempt.error_class, attempt.error_code) == ("IntegrityError", "23514")


def test_reloading_a_page_never_makes_a_letter_dead(session: Session) -> None:
    attempt = fail(session, times=20, source=PAGE)

    assert (attempt.attempts, attempt.state) == (0, "pending")


def test_reloading_a_page_does_not_put_off_the_next_attempt(session: Session) -> None:
    first = fail(session, source=PAGE).next_attempt_at

    assert fail(session, times=5, source=PAGE).next_attempt_at == first


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

    assert fail(session, source=PAGE).state == "dead"


def test_next_attempt_is_later_each_time(session: Session) -> None:
    assert fail(session, times=2).next_attempt_at == NOW + MINUTE + 4 * MINUTE


def test_only_what_is_due_is_due(session: Session) -> None:
    fail(session)

    assert (due(session, NOW), due(session, NOW + 2 * MINUTE)) == ([], [BOB.clerk_id])


def test_sweep_by_hand_tries_also_what_is_not_due(session: Session) -> None:
    fail(session)

    assert due(session, None) == [BOB.clerk_id]


def test_dead_letters_are_not_tried_again_by_themselves(session: Session) -> None:
    fail(session, times=3)

    assert due(session, None) == []


def test_longest_untried_come_first_in_pages_and_none_twice_in_a_run(session: Session) -> None:
    for index, who in enumerate(("last", "first", "second", "now")):
        attempt = fail(session, who=who)
        attempt.last_failed_at = NOW + (index or 3) * MINUTE
    session.flush()
    pages, after = [], None
    for _ in range(3):
        page = attempts.due(
            session, now=None, before=NOW + 3 * MINUTE + MINUTE / 2, after=after, limit=2
        )
        pages.append([clerk_id for _, clerk_id in page])
        after = page[-1][0] if page else after

    assert pages == [["first", "second"], ["last", "now"], []]


def test_what_has_failed_in_this_run_is_not_tried_again_in_it(session: Session) -> None:
    fail(session)

    assert attempts.due(session, now=None, before=NOW, after=None, limit=9) == []


def test_record_goes_when_the_profile_is_found(session: Session, alice: Mentorado) -> None:
    fail(session, who=ALICE.clerk_id)
    fail(session)

    deleted = attempts.delete_resolved(session, OPEN)

    assert (deleted, records(session)) == (1, [BOB.clerk_id])


def test_record_of_a_user_without_profile_stays(session: Session) -> None:
    session.add(User(clerk_id=BOB.clerk_id))
    fail(session)

    assert attempts.delete_resolved(session, OPEN) == 0


@pytest.mark.parametrize("times", [1, 3], ids=["pending", "dead"])
@pytest.mark.parametrize("broken", [BROKEN, STRANGE], ids=["profile", "identity"])
@pytest.mark.parametrize("fact", [{"blocked_at": NOW}, {"deleted_at": NOW}], ids=str)
def test_user_who_is_shut_out_leaves_no_record(
    session: Session, fact: dict[str, datetime], broken: Failure, times: int
) -> None:
    session.add(User(clerk_id=BOB.clerk_id, **fact))
    fail(session, times, failure=broken)

    assert attempts.delete_resolved(session, OPEN) == 1


def test_admin_without_profile_leaves_no_record(session: Session) -> None:
    session.add(User(clerk_id=BOB.clerk_id, role=Role.ADMIN))
    fail(session)

    assert attempts.delete_resolved(session, OPEN) == 1


@pytest.mark.parametrize("rules", [Rules(auto_create=False), Rules(invited_only=True)], ids=str)
@pytest.mark.parametrize(("waits", "left"), [(False, []), (True, [BOB.clerk_id])])
def test_user_who_would_be_denied_leaves_no_record(
    session: Session, rules: Rules, waits: bool, left: list[str]
) -> None:
    add_bob(session, waits=waits)
    fail(session)

    attempts.delete_resolved(session, rules)

    assert records(session) == left


def test_user_whom_only_the_record_knows_keeps_it_under_any_rules(session: Session) -> None:
    fail(session)

    attempts.delete_resolved(session, Rules(invited_only=True))

    assert (records(session), due(session, None)) == ([BOB.clerk_id], [BOB.clerk_id])


def test_strange_answer_about_a_user_is_no_failure_of_the_profile(
    session: Session, alice: Mentorado
) -> None:
    fail(session, who=ALICE.clerk_id, failure=STRANGE)

    attempts.delete_resolved(session, OPEN)

    assert (due(session, None), records(session)) == ([], [ALICE.clerk_id])


def test_record_of_a_strange_answer_goes_when_a_good_one_has_come(session: Session) -> None:
    session.add(User(clerk_id=BOB.clerk_id, identity_completed_at=NOW))
    fail(session, failure=STRANGE)

    assert attempts.delete_resolved(session, OPEN) == 1


def test_strange_answers_pause_ever_longer_and_end_as_a_dead_letter(session: Session) -> None:
    pauses = [
        fail(session, failure=STRANGE).next_attempt_at - NOW,
        fail(session, failure=STRANGE).next_attempt_at - NOW,
    ]

    last = fail(session, failure=STRANGE)

    assert (pauses, last.state) == ([2 * MINUTE, 4 * MINUTE], "dead")
    assert (last.error_class, last.error_code) == ("UnusableAnswerError", "422")


@pytest.mark.parametrize(("first", "then"), [(BROKEN, STRANGE), (STRANGE, BROKEN)], ids=str)
def test_failure_of_the_other_kind_begins_to_count_anew(
    session: Session, first: Failure, then: Failure
) -> None:
    fail(session, times=3, failure=first)

    attempt = fail(session, failure=then)

    assert (attempt.state, attempt.attempts, attempt.error_class) == (
        "pending",
        1,
        then.error_class,
    )


def test_login_that_fails_after_strange_answers_is_no_dead_letter(session: Session) -> None:
    fail(session, times=3, failure=STRANGE)

    attempt = fail(session, source=PAGE)

    assert (attempt.state, attempt.attempts, attempt.next_attempt_at) == (
        "pending",
        0,
        NOW + MINUTE,
    )


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

    attempts.reset_attempt(session, BOB.clerk_id, NOW)

    assert (dead.state, dead.attempts) == ("pending", 0)
    assert due(session, NOW) == [BOB.clerk_id]


def test_letter_that_is_dropped_before_it_is_revived_is_not_missed(
    session: Session, connection: Connection
) -> None:
    fail(session, times=3)
    attempts.reset_attempt(session, BOB.clerk_id, NOW)

    connection.execute(delete(ProvisioningAttempt))

    session.commit()  # as the end of the admin's request does
    assert due(session, NOW) == []
