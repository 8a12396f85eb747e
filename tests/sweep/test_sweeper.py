"""The sweep creates missing profiles; failing, locked or denied users block no other user."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count

import pytest
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from core.database import background_transaction
from models import AuditEvent, Mentorado, ProvisioningAttempt, SweepRun, User
from models.background import SweepStatus
from models.people import Role, SimNao, Turma
from provisioning.admin_actions import set_auto_create
from provisioning.audit import Source
from provisioning.ensure import EnsureResult
from provisioning.rules import Rules
from sweep.executor import SAMPLE_SIZE
from sweep.runs import RunLeaseLostError, SweepRunningError, SweepStoppedError
from sweep.sweeper import Sweeper
from tests.support.concurrency import Clock
from tests.support.sweeps import ensure_by, with_service
from tests.support.users import NOW, failed_attempt
from web.services import Services

POISON = """
CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF NEW.user_id IN ({ids}) THEN
    RAISE EXCEPTION 'poisoned' USING ERRCODE = '23514';
END IF; RETURN NEW; END $$;
CREATE TRIGGER poison BEFORE INSERT ON mentorados FOR EACH ROW EXECUTE FUNCTION poison();
"""


@pytest.fixture
def sweeper(services: Services, session: Session) -> Sweeper:
    """A sweeper on the connection of the test, with small batches.

    The heartbeat's thread never writes: two threads cannot use one connection.
    """
    sweeper = Sweeper(services.provisioning, batch_size=2)
    return replace(sweeper, heartbeat_poll_seconds=3_600)


def add_users(session: Session, count: int, **facts: object) -> list[User]:
    users = [User(clerk_id=f"user_{index}", **facts) for index in range(count)]
    session.add_all(users)
    session.commit()
    return users


def add_pre_registered(session: Session, count: int) -> list[User]:
    """Add users with one pre-registered profile each, so that the sweep links them."""
    users = [
        User(clerk_id=f"user_{index}", email=f"{index}@example.com", email_verified=True)
        for index in range(count)
    ]
    session.add_all(users)
    session.add_all(
        Mentorado(nome_completo="X", email=user.email, turma=Turma.NEON) for user in users
    )
    session.commit()
    return users


def add_ambiguous(session: Session, count: int) -> None:
    """Add users with two pre-registered profiles each, so that the sweep processes them singly."""
    users = add_pre_registered(session, count)
    session.add_all(
        Mentorado(nome_completo="Y", email=user.email, turma=Turma.NEON) for user in users
    )
    session.commit()


def add_other(session: Session) -> list[User]:
    """Add a user without a pre-registered profile."""
    other = User(clerk_id="other")
    session.add(other)
    session.commit()
    return [other]


def count_profiles(session: Session) -> int:
    return session.scalars(select(func.count(Mentorado.user_id))).one()


def test_every_user_without_profile_gets_one(session: Session, sweeper: Sweeper) -> None:
    add_users(session, 5)

    counts = sweeper.start("cli")

    assert (counts.total, counts.scanned, counts.created) == (5, 5, 5)
    assert count_profiles(session) == 5


def test_second_sweep_finds_nothing_to_do(session: Session, sweeper: Sweeper) -> None:
    add_users(session, 3)
    sweeper.start("cli")

    assert sweeper.start("cli").total == 0


@pytest.mark.parametrize("facts", [{"role": Role.ADMIN}, {"blocked_at": NOW}])
def test_admins_and_blocked_users_are_skipped(
    session: Session, sweeper: Sweeper, facts: dict[str, object]
) -> None:
    add_users(session, 2, **facts)

    assert sweeper.start("cli").scanned == 0


def test_verified_user_is_linked_to_a_pre_registered_profile(
    session: Session, sweeper: Sweeper
) -> None:
    [user] = add_users(session, 1, email="eva@example.com", email_verified=True)
    unlinked = Mentorado(nome_completo="Eva", email="EVA@example.com", turma=Turma.NEON)
    session.add(unlinked)
    session.commit()

    counts = sweeper.start("cli")

    session.refresh(unlinked)
    assert (counts.linked, unlinked.user_id) == (1, user.id)


def test_ambiguous_user_is_counted_and_gets_a_new_profile(
    session: Session, sweeper: Sweeper
) -> None:
    add_users(session, 1, email="eva@example.com", email_verified=True)
    for _ in range(2):
        session.add(Mentorado(nome_completo="Eva", email="eva@example.com", turma=Turma.NEON))
    session.commit()

    counts = sweeper.start("cli")

    assert (counts.ambiguous, counts.created) == (1, 1)


def test_audit_event_names_the_sweep_as_source(session: Session, sweeper: Sweeper) -> None:
    add_users(session, 1)

    sweeper.start("cli")

    assert session.scalars(select(AuditEvent.entry)).all() == ["sweep"]


def poison(session: Session, *users: User) -> None:
    """Make the database refuse the profiles of these users."""
    ids = ", ".join(str(user.id) for user in users)
    session.execute(text(POISON.format(ids=ids)))
    session.commit()


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_failing_users_do_not_block_the_others(
    session: Session, services: Services, batch_size: int
) -> None:
    users = add_users(session, 9)
    poison(session, users[2], users[7])

    counts = Sweeper(services.provisioning, batch_size=batch_size).start("cli")

    assert (counts.created, counts.failed, counts.scanned) == (7, 2, 9)
    assert count_profiles(session) == 7


def test_failing_user_is_recorded_and_not_due_in_the_next_scheduled_run(
    session: Session, sweeper: Sweeper
) -> None:
    poison(session, add_users(session, 3)[1])
    sweeper.start("clock")

    again = sweeper.start("clock")

    attempt = session.scalars(select(ProvisioningAttempt)).one()
    assert (attempt.clerk_id, attempt.attempts, attempt.error_code) == ("user_1", 1, "23514")
    assert (again.scanned, again.total) == (0, 0)


def test_manual_sweep_retries_attempts_that_are_not_due(session: Session, sweeper: Sweeper) -> None:
    poison(session, add_users(session, 1)[0])
    sweeper.start("clock")
    session.execute(text("DROP TRIGGER poison ON mentorados"))
    session.commit()

    counts = sweeper.start("admin")

    assert (counts.created, count_profiles(session)) == (1, 1)


def test_attempt_is_deleted_by_the_run_after_its_success(
    session: Session, sweeper: Sweeper
) -> None:
    poison(session, add_users(session, 1)[0])
    sweeper.start("clock")
    session.execute(text("DROP TRIGGER poison ON mentorados"))
    session.commit()
    attempts = select(func.count()).select_from(ProvisioningAttempt)

    sweeper.start("admin")
    after_success = session.scalars(attempts).one()
    sweeper.start("clock")

    assert (after_success, session.scalars(attempts).one()) == (1, 0)


def test_attempt_without_a_stored_user_creates_user_and_profile(
    session: Session, sweeper: Sweeper
) -> None:
    session.add(failed_attempt("unknown", "pending", attempts=0))
    session.commit()

    counts = sweeper.start("clock")

    assert (counts.created, count_profiles(session)) == (1, 1)


def test_late_pre_registration_is_claimed_without_a_login(
    session: Session, sweeper: Sweeper
) -> None:
    [user] = add_users(session, 1, email="eva@example.com", email_verified=True)
    sweeper.start("clock")
    unlinked = Mentorado(nome_completo="Eva", email="eva@example.com", turma=Turma.NEON)
    session.add(unlinked)
    session.commit()

    counts = sweeper.start("clock")

    session.refresh(unlinked)
    assert (counts.linked, unlinked.user_id, count_profiles(session)) == (1, user.id, 1)


def test_dry_run_counts_and_writes_nothing(session: Session, sweeper: Sweeper) -> None:
    add_users(session, 3)
    eva = User(clerk_id="user_eva", email="eva@example.com", email_verified=True)
    session.add(eva)
    session.add(Mentorado(nome_completo="Eva", email="eva@example.com", turma=Turma.NEON))
    session.commit()

    counts = sweeper.start("cli", dry_run=True)

    assert (counts.created, counts.linked, counts.scanned) == (3, 1, 4)
    assert count_profiles(session) == 0


def test_dry_run_stores_a_sample_of_its_outcomes(session: Session, sweeper: Sweeper) -> None:
    [user] = add_pre_registered(session, 1)
    [other] = add_other(session)

    sweeper.start("cli", dry_run=True)

    assert session.scalars(select(SweepRun.sample)).one() == [
        {"user_id": user.id, "outcome": "linked"},
        {"user_id": other.id, "outcome": "created"},
    ]


def test_sample_is_limited(session: Session, services: Services) -> None:
    add_users(session, SAMPLE_SIZE + 5)

    counts = Sweeper(services.provisioning).start("cli", dry_run=True)

    assert (counts.created, len(counts.sample)) == (SAMPLE_SIZE + 5, SAMPLE_SIZE)


def test_disabled_auto_create_applies_to_the_sweep_and_its_dry_run(
    session: Session, sweeper: Sweeper
) -> None:
    add_users(session, 3)
    set_auto_create(session, on=False, source=Source("cli"), now=NOW)
    session.commit()

    preview, done = sweeper.start("cli", dry_run=True), sweeper.start("cli")

    assert (preview.scanned, preview.created, done.scanned, done.created) == (3, 0, 3, 0)


def test_sweep_creates_profiles_once_auto_create_is_enabled(
    session: Session, sweeper: Sweeper
) -> None:
    add_users(session, 3)
    set_auto_create(session, on=False, source=Source("cli"), now=NOW)
    session.commit()
    sweeper.start("cli")
    set_auto_create(session, on=True, source=Source("cli"), now=NOW)
    session.commit()

    assert sweeper.start("cli").created == 3


def test_invited_only_links_invited_users_and_creates_no_profile(
    session: Session, services: Services
) -> None:
    add_pre_registered(session, 1)
    add_other(session)
    strict = replace(services.provisioning, rules=Rules(invited_only=True))

    counts = Sweeper(strict).start("cli")

    assert (counts.linked, counts.created, count_profiles(session)) == (1, 0, 1)


def test_configured_auto_create_applies_to_the_sweep(session: Session, services: Services) -> None:
    add_users(session, 2)
    strict = replace(services.provisioning, rules=Rules(auto_create=False))

    counts = Sweeper(strict).start("cli")

    assert (counts.scanned, counts.created, count_profiles(session)) == (2, 0, 0)


def test_run_stores_status_trigger_and_counts(session: Session, sweeper: Sweeper) -> None:
    add_users(session, 3)

    sweeper.start("cli")

    run = session.scalars(select(SweepRun)).one()
    assert (run.status, run.trigger, run.total, run.created) == ("succeeded", "cli", 3, 3)
    assert run.finished_at is not None


def test_unexpected_error_ends_the_run_as_failed(session: Session, sweeper: Sweeper) -> None:
    add_ambiguous(session, 1)

    def ensure_user(clerk_id: str) -> object:
        raise RuntimeError(clerk_id)

    with pytest.raises(RuntimeError):
        with_service(sweeper, ensure=ensure_user).start("cli")

    run = session.scalars(select(SweepRun)).one()
    assert (run.status, run.error) == ("failed", "RuntimeError")


def test_sweep_stops_after_losing_the_lease(session: Session, sweeper: Sweeper) -> None:
    add_ambiguous(session, 4)
    minutes = count(step=60)

    def ensure_user(clerk_id: str) -> object:
        session.execute(update(SweepRun).values(owner="another"))
        session.commit()
        return ensure_by(sweeper, clerk_id)

    slow = replace(with_service(sweeper, ensure=ensure_user), monotonic=minutes.__next__)
    with pytest.raises(RunLeaseLostError):
        slow.start("cli")

    assert count_profiles(session) == 1


def test_batch_is_not_written_after_losing_the_lease(session: Session, sweeper: Sweeper) -> None:
    add_users(session, 4)

    def take_over(_: object) -> None:
        session.execute(update(SweepRun).values(owner="another"))
        session.commit()

    with pytest.raises(RunLeaseLostError):
        replace(sweeper, on_progress=take_over).start("cli")

    assert count_profiles(session) == 0


def test_scheduled_sweep_starts_once_in_an_interval(session: Session, sweeper: Sweeper) -> None:
    first = sweeper.run_if_due()

    second = sweeper.run_if_due()

    assert (first is not None, second) == (True, None)


def test_queued_run_is_executed(session: Session, sweeper: Sweeper) -> None:
    session.add(SweepRun(status="queued", trigger="admin"))
    add_users(session, 1)

    counts = sweeper.run_if_due()

    assert counts is not None
    assert (counts.created, runs_of(session)) == (1, [("succeeded", "admin", False)])


def test_active_run_refuses_another(session: Session, sweeper: Sweeper) -> None:
    session.add(SweepRun(status="running", trigger="clock", owner="x", heartbeat_at=func.now()))
    session.commit()

    with pytest.raises(SweepRunningError):
        sweeper.start("cli")


def add_run(session: Session, **facts: object) -> SweepRun:
    """Add a run of another process."""
    run = SweepRun(**{"status": "running", "trigger": "clock", "owner": "x", **facts})
    session.add(run)
    session.commit()
    return run


EXPIRED = {"heartbeat_at": func.now() - timedelta(minutes=1)}
ALIVE = {"heartbeat_at": func.now() - timedelta(seconds=5)}


def runs_of(session: Session) -> list[tuple[str, str, bool]]:
    """Return status, trigger and `dry_run` of all runs."""
    session.expire_all()
    rows = session.execute(
        select(SweepRun.status, SweepRun.trigger, SweepRun.dry_run).order_by(SweepRun.id)
    )
    return [(row.status, row.trigger, row.dry_run) for row in rows]


def test_command_replaces_a_run_with_an_expired_lease(session: Session, sweeper: Sweeper) -> None:
    add_users(session, 1)
    add_run(session, **EXPIRED)

    counts = sweeper.start_by_command(dry_run=False)

    assert (counts.created, runs_of(session)) == (
        1,
        [("abandoned", "clock", False), ("succeeded", "cli", False)],
    )


def test_command_is_refused_while_another_run_is_active(session: Session, sweeper: Sweeper) -> None:
    add_run(session, **ALIVE)

    with pytest.raises(SweepRunningError):
        sweeper.start_by_command(dry_run=False)

    assert runs_of(session) == [("running", "clock", False)]


@pytest.mark.parametrize(("trigger", "expected"), [("admin", "admin"), ("clock", "cli")])
def test_command_executes_a_queued_run(
    session: Session, sweeper: Sweeper, trigger: str, expected: str
) -> None:
    poison(session, add_users(session, 1)[0])
    sweeper.start("cli")
    session.execute(text("DROP TRIGGER poison ON mentorados"))
    session.execute(delete(SweepRun))
    add_run(session, status="queued", trigger=trigger, owner=None)

    counts = sweeper.start_by_command(dry_run=False)

    # The attempt was not due: a command includes it, whichever trigger queued the run.
    assert (counts.created, runs_of(session)) == (1, [("succeeded", expected, False)])


def test_dry_run_command_leaves_a_queued_run_queued(session: Session, sweeper: Sweeper) -> None:
    add_users(session, 2)
    queued = add_run(session, status="queued", trigger="admin", owner=None)

    counts = sweeper.start_by_command(dry_run=True)

    session.refresh(queued)
    assert (counts.created, count_profiles(session), queued.status) == (2, 0, "queued")
    assert (queued.owner, queued.started_at, queued.created) == (None, None, 0)


def test_command_executes_a_queued_dry_run_first(session: Session, sweeper: Sweeper) -> None:
    add_users(session, 2)
    queued = add_run(session, status="queued", trigger="admin", owner=None, dry_run=True)

    counts = sweeper.start_by_command(dry_run=False)

    session.refresh(queued)
    assert (counts.created, count_profiles(session)) == (2, 2)
    assert (queued.status, len(queued.sample or [])) == ("succeeded", 2)
    assert runs_of(session)[1:] == [("succeeded", "cli", False)]


def test_stopped_dry_run_command_queues_nothing(session: Session, sweeper: Sweeper) -> None:
    add_users(session, 2)

    with pytest.raises(SweepStoppedError):
        replace(sweeper, should_stop=lambda: True).start_by_command(dry_run=True)

    assert runs_of(session) == [("failed", "cli", True)]


def test_released_run_keeps_its_counts(session: Session, sweeper: Sweeper) -> None:
    add_ambiguous(session, 3)
    answers = iter([False, False, True])  # the first one for the group of three
    with pytest.raises(SweepStoppedError):
        replace(sweeper, should_stop=lambda: next(answers)).start("clock")

    counts = replace(sweeper, owner="another").run_if_due()

    assert counts is not None
    assert (counts.created, counts.scanned, counts.total) == (3, 3, 3)


def test_take_over_finds_due_queued_and_expired_runs_only(
    session: Session, sweeper: Sweeper
) -> None:
    first, idle = sweeper.run_if_due(), sweeper.run_if_due()
    add_run(session, **ALIVE)
    while_another_runs = sweeper.run_if_due()
    session.execute(update(SweepRun).where(SweepRun.status == "running").values(**EXPIRED))
    session.commit()
    expired = sweeper.run_if_due()
    add_run(session, status="queued", trigger="admin", owner=None)
    queued = sweeper.run_if_due()

    found = [result is not None for result in (first, idle, while_another_runs, expired, queued)]
    assert found == [True, False, False, True, True]


def test_stopping_process_takes_over_no_run(session: Session, sweeper: Sweeper) -> None:
    assert replace(sweeper, should_stop=lambda: True).run_if_due() is None


def test_scheduler_runs_more_often_while_identities_are_incomplete(
    session: Session, sweeper: Sweeper
) -> None:
    hourly = replace(
        with_service(sweeper, complete_from_clerk=lambda _: None), interval=timedelta(hours=1)
    )
    two_minutes_ago = func.now() - timedelta(minutes=2)
    session.add(SweepRun(status="succeeded", trigger="clock", created_at=two_minutes_ago))
    session.commit()
    idle = hourly.run_if_due()

    add_users(session, 1)

    assert (idle, hourly.run_if_due() is not None) == (None, True)


def add_failed(session: Session, number: int) -> None:
    """Add users with a failed attempt that is due."""
    for index in range(number):
        clerk_id = f"failed_{index}"
        session.add(User(clerk_id=clerk_id))
        session.add(failed_attempt(clerk_id, "pending", attempts=1))
    session.commit()


class SlowEnsure:
    """Ensure users, each in so many seconds of the sweeper's clock."""

    def __init__(self, sweeper: Sweeper, seconds: float) -> None:
        self.sweeper, self.seconds = sweeper, seconds
        self.clock, self.ensured = Clock(), list[str]()
        self.created_before = list[int]()
        self.count_profiles: Callable[[], int] = lambda: 0

    def __call__(self, clerk_id: str) -> EnsureResult:
        self.clock.seconds += self.seconds
        self.ensured.append(clerk_id)
        self.created_before.append(self.count_profiles())
        return ensure_by(self.sweeper, clerk_id)


def slow_down(session: Session, sweeper: Sweeper, seconds: float) -> tuple[Sweeper, SlowEnsure]:
    slow = SlowEnsure(sweeper, seconds)
    slow.count_profiles = lambda: count_profiles(session)
    return replace(with_service(sweeper, ensure=slow), monotonic=slow.clock), slow


def test_new_users_are_created_before_failed_ones_are_retried(
    session: Session, sweeper: Sweeper
) -> None:
    add_failed(session, 3)
    add_users(session, 4)
    slow_sweeper, slow = slow_down(session, sweeper, 1.2)

    slow_sweeper.start("clock")

    assert slow.created_before == [4, 5, 6]


def test_new_users_wait_only_briefly_for_users_who_are_slow_to_link(
    session: Session, sweeper: Sweeper
) -> None:
    add_ambiguous(session, 5)
    add_other(session)
    slow_sweeper, slow = slow_down(session, sweeper, 1.2)

    slow_sweeper.start("clock")

    assert slow.created_before == [0, 1, 3, 4, 5]


def test_scheduled_run_ends_in_time_and_the_next_one_continues(
    session: Session, sweeper: Sweeper
) -> None:
    add_failed(session, 20)
    slow_sweeper, slow = slow_down(session, sweeper, 1.2)

    slow_sweeper.start("clock")
    first = len(slow.ensured)
    slow_sweeper.start("clock")

    assert (first, len(set(slow.ensured)), count_profiles(session)) == (9, 18, 18)


def test_manual_run_includes_all_users_and_new_ones_meanwhile(
    session: Session, sweeper: Sweeper
) -> None:
    add_failed(session, 20)
    slow_sweeper, slow = slow_down(session, sweeper, 1.2)

    def ensure_user(clerk_id: str) -> EnsureResult:
        if len(slow.ensured) == 4:
            add_other(session)
        return slow(clerk_id)

    counts = with_service(slow_sweeper, ensure=ensure_user).start("admin")

    added = slow.created_before[9] - slow.created_before[8]
    assert (counts.created, count_profiles(session), added) == (21, 21, 2)


def test_attempts_of_denied_users_are_deleted(session: Session, sweeper: Sweeper) -> None:
    add_failed(session, 3)
    facts: list[dict[str, object]] = [
        {"blocked_at": NOW},
        {"deleted_at": NOW},
        {"role": Role.ADMIN},
    ]
    for index, fact in enumerate(facts):
        session.execute(update(User).where(User.clerk_id == f"failed_{index}").values(**fact))
    session.commit()

    counts = sweeper.start("clock")

    remaining = session.scalars(select(func.count()).select_from(ProvisioningAttempt)).one()
    assert (counts.total, counts.scanned, remaining) == (0, 0, 0)


def test_attempts_are_deleted_while_auto_create_is_off_and_users_created_later(
    session: Session, sweeper: Sweeper
) -> None:
    add_failed(session, 2)
    set_auto_create(session, on=False, source=Source("cli"), now=NOW)
    session.commit()
    while_off = sweeper.start("clock")
    remaining = session.scalars(select(func.count()).select_from(ProvisioningAttempt)).one()
    set_auto_create(session, on=True, source=Source("cli"), now=NOW)
    session.commit()

    assert (while_off.created, remaining, sweeper.start("clock").created) == (0, 0, 2)


def test_progress_is_reported(services: Services, session: Session) -> None:
    add_users(session, 2)
    reported: list[int] = []
    report: Callable[..., None] = lambda counts: reported.append(counts.scanned)  # noqa: E731

    Sweeper(services.provisioning, on_progress=report).start("cli")

    assert (reported[0], reported[-1]) == (0, 2)


def test_inactive_profile_is_not_created_again(session: Session, sweeper: Sweeper) -> None:
    [user] = add_users(session, 1)
    profile = Mentorado(user_id=user.id, nome_completo="X", turma=Turma.NEON, ativo=SimNao.NAO)
    with background_transaction() as other:
        other.add(profile)

    assert sweeper.start("cli").scanned == 0


def test_stopping_process_queues_its_run_again(session: Session, sweeper: Sweeper) -> None:
    add_ambiguous(session, 3)
    answers = iter([False, False, True])  # the first one for the group of three

    with pytest.raises(SweepStoppedError):
        replace(sweeper, should_stop=lambda: next(answers)).start("clock")

    run = session.scalars(select(SweepRun)).one()
    assert (count_profiles(session), run.status, run.owner) == (1, "queued", None)


def test_released_run_is_finished_by_another_process(session: Session, sweeper: Sweeper) -> None:
    add_users(session, 3)
    with pytest.raises(SweepStoppedError):
        replace(sweeper, should_stop=lambda: True).start("clock")

    counts = replace(sweeper, owner="another").run_if_due()

    statuses = session.scalars(select(SweepRun.status)).all()
    assert counts is not None
    assert (counts.created, statuses) == (3, ["succeeded"])


def test_ctrl_c_ends_the_run_as_failed(session: Session, sweeper: Sweeper) -> None:
    add_ambiguous(session, 1)

    def ensure_user(clerk_id: str) -> object:
        raise KeyboardInterrupt(clerk_id)

    with pytest.raises(KeyboardInterrupt):
        with_service(sweeper, ensure=ensure_user).start("cli")

    run = session.scalars(select(SweepRun)).one()
    assert (run.status, run.error) == ("failed", "KeyboardInterrupt")


def test_user_ensured_concurrently_counts_as_existing(session: Session, sweeper: Sweeper) -> None:
    add_ambiguous(session, 1)

    def ensure_user(clerk_id: str) -> object:
        ensure_by(sweeper, clerk_id)
        return ensure_by(sweeper, clerk_id)

    counts = with_service(sweeper, ensure=ensure_user).start("cli")

    assert (counts.existing, counts.created) == (1, 0)


def test_long_sweep_logs_its_progress(session: Session, sweeper: Sweeper) -> None:
    add_ambiguous(session, 2)
    with capture_logs() as logs:
        replace(sweeper, monotonic=count(step=60).__next__).start("cli")

    progress = [line["scanned"] for line in logs if line["event"] == "sweep_progress"]
    assert list(dict.fromkeys(progress)) == [0, 1, 2]  # no user could be linked in a group


def test_sweep_deletes_old_scheduled_runs(sweeper: Sweeper, session: Session) -> None:
    old = SweepRun(status=SweepStatus.SUCCEEDED, trigger="clock")
    old.created_at = sweeper.now() - timedelta(days=31)
    session.add(old)
    session.commit()
    old_id = old.id

    sweeper.start("clock")

    assert old_id not in session.scalars(select(SweepRun.id)).all()
