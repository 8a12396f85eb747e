"""Failed attempts: counted for background sources, retried with pauses, deleted when resolved."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import delete, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import NoResultFound
from sqlalchemy.orm import Session

from models import Mentorado, ProvisioningAttempt, User
from models.background import UNUSABLE_ANSWER
from models.people import Role, Turma
from provisioning import attempts
from provisioning.attempts import Failure, RetryPolicy
from provisioning.audit import Source
from provisioning.rules import Rules
from tests.support.users import ALICE, BOB, NOW, PAGE

POLICY = RetryPolicy(max_attempts=3, first_pause=timedelta(seconds=60))
BACKGROUND = Source("sweep")
BROKEN = Failure("IntegrityError", "23514")
UNUSABLE = Failure(UNUSABLE_ANSWER, "422")
DEFAULT_RULES = Rules()
MINUTE = timedelta(minutes=1)


def attempted_users(session: Session) -> list[str]:
    """Return the Clerk ids of all attempts."""
    return list(session.scalars(select(ProvisioningAttempt.clerk_id)))


def add_bob(session: Session, *, is_pre_registered: bool = False) -> None:
    """Add Bob with a verified address and, if asked, a pre-registered profile for it."""
    session.add(User(clerk_id=BOB.clerk_id, email=BOB.email, email_verified=True))
    if is_pre_registered:
        session.add(Mentorado(nome_completo="Bob", email=BOB.email, turma=Turma.NEON))
    session.flush()


def fail(
    session: Session,
    times: int = 1,
    source: Source = BACKGROUND,
    clerk_id: str = BOB.clerk_id,
    failure: Failure = BROKEN,
) -> ProvisioningAttempt:
    for count in range(times):
        attempt = attempts.record_failure(
            session,
            clerk_id,
            failure,
            source=source,
            now=NOW + count * MINUTE,
            policy=POLICY,
            jitter=1.0,
        )
        session.flush()  # as its commit would
    return attempt


def due(session: Session, now: datetime | None) -> list[str]:
    """Return the Clerk ids that are due in a run that starts after all failures."""
    later = NOW + timedelta(days=9)
    found = attempts.due_attempts(session, now=now, before=later, after=None, limit=9)
    assert attempts.count_due(session, now) == len(found)
    return [clerk_id for _, clerk_id in found]


@pytest.mark.parametrize(
    ("count", "jitter", "seconds"),
    [(0, 1.0, 60), (0, 0.0, 30), (1, 1.0, 120), (3, 0.5, 360), (6, 1.0, 3600), (999, 1.0, 3600)],
)
def test_pause_doubles_up_to_its_cap_with_jitter_in_its_second_half(
    count: int, jitter: float, seconds: int
) -> None:
    assert POLICY.pause_after(count, jitter) == timedelta(seconds=seconds)


def test_first_failure_of_a_request_is_recorded_with_no_attempt_counted(session: Session) -> None:
    attempt = fail(session, source=PAGE)

    assert (attempt.attempts, attempt.state, attempt.request_id) == (
        0,
        "pending",
        PAGE.request_id,
    )
    assert (attempt.error_class, attempt.error_code) == ("IntegrityError", "23514")


def test_failed_requests_never_create_a_dead_letter(session: Session) -> None:
    attempt = fail(session, times=20, source=PAGE)

    assert (attempt.attempts, attempt.state) == (0, "pending")


def test_failed_requests_do_not_postpone_the_next_attempt(session: Session) -> None:
    first = fail(session, source=PAGE).next_attempt_at

    assert fail(session, times=5, source=PAGE).next_attempt_at == first


def test_times_of_the_first_and_the_last_failure_are_kept(session: Session) -> None:
    attempt = fail(session, times=3)

    assert (attempt.first_failed_at, attempt.last_failed_at) == (NOW, NOW + 2 * MINUTE)


@pytest.mark.parametrize(("times", "state"), [(2, "pending"), (3, "dead"), (4, "dead")])
def test_attempt_is_dead_after_the_maximum_of_background_failures(
    session: Session, times: int, state: str
) -> None:
    assert fail(session, times).state == state


def test_failed_request_does_not_reset_a_dead_letter(session: Session) -> None:
    fail(session, times=3)

    assert fail(session, source=PAGE).state == "dead"


def test_next_attempt_is_later_each_time(session: Session) -> None:
    assert fail(session, times=2).next_attempt_at == NOW + MINUTE + 4 * MINUTE


def test_attempt_is_due_after_its_pause(session: Session) -> None:
    fail(session)

    assert (due(session, NOW), due(session, NOW + 2 * MINUTE)) == ([], [BOB.clerk_id])


def test_manual_sweep_includes_attempts_that_are_not_due(session: Session) -> None:
    fail(session)

    assert due(session, None) == [BOB.clerk_id]


def test_dead_letters_are_never_due(session: Session) -> None:
    fail(session, times=3)

    assert due(session, None) == []


def test_due_attempts_are_paged_by_last_failure_without_repeats(session: Session) -> None:
    for index, clerk_id in enumerate(("last", "first", "second", "now")):
        attempt = fail(session, clerk_id=clerk_id)
        attempt.last_failed_at = NOW + (index or 3) * MINUTE
    session.flush()
    pages, after = [], None
    for _ in range(3):
        page = attempts.due_attempts(
            session, now=None, before=NOW + 3 * MINUTE + MINUTE / 2, after=after, limit=2
        )
        pages.append([clerk_id for _, clerk_id in page])
        after = page[-1][0] if page else after

    assert pages == [["first", "second"], ["last", "now"], []]


def test_attempt_that_failed_in_this_run_is_not_due_in_it(session: Session) -> None:
    fail(session)

    assert attempts.due_attempts(session, now=None, before=NOW, after=None, limit=9) == []


def test_attempt_of_a_user_with_profile_is_deleted(session: Session, alice: Mentorado) -> None:
    fail(session, clerk_id=ALICE.clerk_id)
    fail(session)

    deleted = attempts.delete_resolved(session, DEFAULT_RULES)

    assert (deleted, attempted_users(session)) == (1, [BOB.clerk_id])


def test_attempt_of_a_user_without_profile_is_kept(session: Session) -> None:
    session.add(User(clerk_id=BOB.clerk_id))
    fail(session)

    assert attempts.delete_resolved(session, DEFAULT_RULES) == 0


@pytest.mark.parametrize("times", [1, 3], ids=["pending", "dead"])
@pytest.mark.parametrize("broken", [BROKEN, UNUSABLE], ids=["profile", "identity"])
@pytest.mark.parametrize("fact", [{"blocked_at": NOW}, {"deleted_at": NOW}], ids=str)
def test_attempt_of_a_blocked_or_deleted_user_is_deleted(
    session: Session, fact: dict[str, datetime], broken: Failure, times: int
) -> None:
    session.add(User(clerk_id=BOB.clerk_id, **fact))
    fail(session, times, failure=broken)

    assert attempts.delete_resolved(session, DEFAULT_RULES) == 1


def test_attempt_of_an_admin_without_profile_is_deleted(session: Session) -> None:
    session.add(User(clerk_id=BOB.clerk_id, role=Role.ADMIN))
    fail(session)

    assert attempts.delete_resolved(session, DEFAULT_RULES) == 1


@pytest.mark.parametrize("rules", [Rules(auto_create=False), Rules(invited_only=True)], ids=str)
@pytest.mark.parametrize(("is_pre_registered", "left"), [(False, []), (True, [BOB.clerk_id])])
def test_attempt_of_a_user_who_would_be_denied_is_deleted(
    session: Session, rules: Rules, is_pre_registered: bool, left: list[str]
) -> None:
    add_bob(session, is_pre_registered=is_pre_registered)
    fail(session)

    attempts.delete_resolved(session, rules)

    assert attempted_users(session) == left


def test_attempt_without_a_stored_user_is_kept_under_any_rules(session: Session) -> None:
    fail(session)

    attempts.delete_resolved(session, Rules(invited_only=True))

    assert (attempted_users(session), due(session, None)) == ([BOB.clerk_id], [BOB.clerk_id])


def test_unusable_identity_of_a_user_with_profile_is_kept_but_not_due(
    session: Session, alice: Mentorado
) -> None:
    fail(session, clerk_id=ALICE.clerk_id, failure=UNUSABLE)

    attempts.delete_resolved(session, DEFAULT_RULES)

    assert (due(session, None), attempted_users(session)) == ([], [ALICE.clerk_id])


def test_attempt_for_an_unusable_identity_is_deleted_once_it_is_complete(session: Session) -> None:
    session.add(User(clerk_id=BOB.clerk_id, identity_completed_at=NOW))
    fail(session, failure=UNUSABLE)

    assert attempts.delete_resolved(session, DEFAULT_RULES) == 1


def test_unusable_identities_back_off_and_end_as_a_dead_letter(session: Session) -> None:
    pauses = [
        fail(session, failure=UNUSABLE).next_attempt_at - NOW,
        fail(session, failure=UNUSABLE).next_attempt_at - NOW,
    ]

    last = fail(session, failure=UNUSABLE)

    assert (pauses, last.state) == ([2 * MINUTE, 4 * MINUTE], "dead")
    assert (last.error_class, last.error_code) == ("UnusableAnswerError", "422")


@pytest.mark.parametrize(("first", "then"), [(BROKEN, UNUSABLE), (UNUSABLE, BROKEN)], ids=str)
def test_failure_of_another_kind_restarts_the_count(
    session: Session, first: Failure, then: Failure
) -> None:
    fail(session, times=3, failure=first)

    attempt = fail(session, failure=then)

    assert (attempt.state, attempt.attempts, attempt.error_class) == (
        "pending",
        1,
        then.error_class,
    )


def test_failed_login_after_unusable_identities_is_pending(session: Session) -> None:
    fail(session, times=3, failure=UNUSABLE)

    attempt = fail(session, source=PAGE)

    assert (attempt.state, attempt.attempts, attempt.next_attempt_at) == (
        "pending",
        0,
        NOW + MINUTE,
    )


def test_dead_letter_is_listed_with_the_id_of_a_stored_user(session: Session) -> None:
    user = User(clerk_id=ALICE.clerk_id)
    session.add(user)
    fail(session, 3, clerk_id=ALICE.clerk_id)
    fail(session, 3)

    found = attempts.list_dead_letters(session, after_id=0, limit=9)

    assert [user_id for _, user_id in found] == [user.id, None]


def test_pending_attempt_is_not_found_as_a_dead_letter(session: Session) -> None:
    pending = fail(session)

    with pytest.raises(NoResultFound):
        attempts.load_dead_letter(session, pending.id)


def test_reset_attempt_is_due_at_once_with_no_attempts_counted(session: Session) -> None:
    dead = fail(session, times=3)

    attempts.reset_attempt(session, BOB.clerk_id, NOW)

    assert (dead.state, dead.attempts) == ("pending", 0)
    assert due(session, NOW) == [BOB.clerk_id]


def test_reset_of_an_attempt_deleted_meanwhile_raises_nothing(
    session: Session, connection: Connection
) -> None:
    fail(session, times=3)
    attempts.reset_attempt(session, BOB.clerk_id, NOW)

    connection.execute(delete(ProvisioningAttempt))

    session.commit()  # as the end of the admin's request does
    assert due(session, NOW) == []
