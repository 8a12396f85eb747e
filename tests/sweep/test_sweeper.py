"""The sweep: whoever is due a profile gets one, nobody else does, nobody holds the others up."""

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
from models.columns import SimNao
from models.mentorado import Turma
from models.sweep_run import SweepStatus
from models.user import Role
from provisioning import auto_create
from provisioning.audit import Source
from provisioning.ensure import EnsureResult
from provisioning.rules import Rules
from sweep.progress import SAMPLE_SIZE
from sweep.runs import LeaseLostError, SweepRunningError, SweepStoppedError
from sweep.scheduler import build_sweeper
from sweep.sweeper import Sweeper
from tests.support.concurrency import Clock
from tests.support.users import NOW
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
    """A sweeper on the test's own connection, with small batches."""
    return build_sweeper(services.provisioning, batch_size=2)


def add_people(session: Session, count: int, **facts: object) -> list[User]:
    people = [User(clerk_id=f"user_{index}", **facts) for index in range(count)]
    session.add_all(people)
    session.commit()
    return people


def add_expected(session: Session, count: int) -> list[User]:
    """People for each of whom a profile waits, so that they are linked."""
    people = [
        User(clerk_id=f"user_{index}", email=f"{index}@example.com", email_verified=True)
        for index in range(count)
    ]
    session.add_all(people)
    session.add_all(
        Mentorado(nome_completo="X", email=person.email, turma=Turma.NEON) for person in people
    )
    session.commit()
    return people


def add_ambiguous(session: Session, count: int) -> None:
    """People for each of whom two profiles wait, so that they are looked at one by one."""
    people = add_expected(session, count)
    session.add_all(
        Mentorado(nome_completo="Y", email=person.email, turma=Turma.NEON) for person in people
    )
    session.commit()


def add_others(session: Session) -> list[User]:
    """Somebody nobody expects."""
    other = User(clerk_id="other")
    session.add(other)
    session.commit()
    return [other]


def profiles(session: Session) -> int:
    return session.scalars(select(func.count(Mentorado.user_id))).one()


def test_everybody_without_profile_gets_one(session: Session, sweeper: Sweeper) -> None:
    add_people(session, 5)

    counts = sweeper.start("cli")

    assert (counts.total, counts.scanned, counts.created) == (5, 5, 5)
    assert profiles(session) == 5


def test_second_sweep_finds_nothing_to_do(session: Session, sweeper: Sweeper) -> None:
    add_people(session, 3)
    sweeper.start("cli")

    assert sweeper.start("cli").total == 0


@pytest.mark.parametrize("facts", [{"role": Role.ADMIN}, {"blocked_at": NOW}])
def test_admins_and_blocked_people_are_left_alone(
    session: Session, sweeper: Sweeper, facts: dict[str, object]
) -> None:
    add_people(session, 2, **facts)

    assert sweeper.start("cli").scanned == 0


def test_verified_person_is_linked_to_a_pre_registration(
    session: Session, sweeper: Sweeper
) -> None:
    [user] = add_people(session, 1, email="eva@example.com", email_verified=True)
    waiting = Mentorado(nome_completo="Eva", email="EVA@example.com", turma=Turma.NEON)
    session.add(waiting)
    session.commit()

    counts = sweeper.start("cli")

    session.refresh(waiting)
    assert (counts.linked, waiting.user_id) == (1, user.id)


def test_ambiguous_person_is_counted_and_gets_an_own_profile(
    session: Session, sweeper: Sweeper
) -> None:
    add_people(session, 1, email="eva@example.com", email_verified=True)
    for _ in range(2):
        session.add(Mentorado(nome_completo="Eva", email="eva@example.com", turma=Turma.NEON))
    session.commit()

    counts = sweeper.start("cli")

    assert (counts.ambiguous, counts.created) == (1, 1)


def test_audit_says_that_the_sweep_did_it(session: Session, sweeper: Sweeper) -> None:
    add_people(session, 1)

    sweeper.start("cli")

    assert session.scalars(select(AuditEvent.entry)).all() == ["sweep"]


def poison(session: Session, *people: User) -> None:
    """Let the database refuse a profile to these people, as a trigger or a bad value would."""
    ids = ", ".join(str(person.id) for person in people)
    session.execute(text(POISON.format(ids=ids)))
    session.commit()


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_poisoned_people_do_not_hold_up_the_others(
    session: Session, services: Services, batch_size: int
) -> None:
    people = add_people(session, 9)
    poison(session, people[2], people[7])

    counts = build_sweeper(services.provisioning, batch_size=batch_size).start("cli")

    assert (counts.created, counts.failed, counts.scanned) == (7, 2, 9)
    assert profiles(session) == 7


def test_poisoned_person_becomes_an_attempt_that_the_clock_leaves_in_peace(
    session: Session, sweeper: Sweeper
) -> None:
    poison(session, add_people(session, 3)[1])
    sweeper.start("clock")

    again = sweeper.start("clock")

    attempt = session.scalars(select(ProvisioningAttempt)).one()
    assert (attempt.clerk_id, attempt.attempts, attempt.error_code) == ("user_1", 1, "23514")
    assert (again.scanned, again.total) == (0, 0)


def test_sweep_by_hand_tries_whom_the_clock_would_leave_in_peace(
    session: Session, sweeper: Sweeper
) -> None:
    poison(session, add_people(session, 1)[0])
    sweeper.start("clock")
    session.execute(text("DROP TRIGGER poison ON mentorados"))
    session.commit()

    counts = sweeper.start("admin")

    assert (counts.created, profiles(session)) == (1, 1)


def test_record_outlives_the_cure_until_a_later_pass_finds_the_profile(
    session: Session, sweeper: Sweeper
) -> None:
    poison(session, add_people(session, 1)[0])
    sweeper.start("clock")
    session.execute(text("DROP TRIGGER poison ON mentorados"))
    session.commit()
    records = select(func.count()).select_from(ProvisioningAttempt)

    sweeper.start("admin")
    after_the_cure = session.scalars(records).one()
    sweeper.start("clock")

    assert (after_the_cure, session.scalars(records).one()) == (1, 0)


def test_person_whom_only_a_record_knows_is_provided_for(
    session: Session, sweeper: Sweeper
) -> None:
    attempt = {"attempts": 0, "error_class": "X", "state": "pending", "next_attempt_at": NOW}
    times = {"first_failed_at": NOW, "last_failed_at": NOW}
    session.add(ProvisioningAttempt(clerk_id="stranger", **attempt, **times))
    session.commit()

    counts = sweeper.start("clock")

    assert (counts.created, profiles(session)) == (1, 1)


def test_late_registration_is_folded_in_without_a_login(session: Session, sweeper: Sweeper) -> None:
    [user] = add_people(session, 1, email="eva@example.com", email_verified=True)
    sweeper.start("clock")
    waiting = Mentorado(nome_completo="Eva", email="eva@example.com", turma=Turma.NEON)
    session.add(waiting)
    session.commit()

    counts = sweeper.start("clock")

    session.refresh(waiting)
    assert (counts.linked, waiting.user_id, profiles(session)) == (1, user.id, 1)


def test_dry_run_counts_and_writes_nothing(session: Session, sweeper: Sweeper) -> None:
    add_people(session, 3)
    eva = User(clerk_id="user_eva", email="eva@example.com", email_verified=True)
    session.add(eva)
    session.add(Mentorado(nome_completo="Eva", email="eva@example.com", turma=Turma.NEON))
    session.commit()

    counts = sweeper.start("cli", dry_run=True)

    assert (counts.created, counts.linked, counts.scanned) == (3, 1, 4)
    assert profiles(session) == 0


def test_dry_run_keeps_a_sample_of_what_it_found(session: Session, sweeper: Sweeper) -> None:
    [user] = add_expected(session, 1)
    [other] = add_others(session)

    sweeper.start("cli", dry_run=True)

    assert session.scalars(select(SweepRun.sample)).one() == [
        {"user_id": user.id, "outcome": "linked"},
        {"user_id": other.id, "outcome": "created"},
    ]


def test_sample_stays_small(session: Session, services: Services) -> None:
    add_people(session, SAMPLE_SIZE + 5)

    counts = build_sweeper(services.provisioning).start("cli", dry_run=True)

    assert (counts.created, len(counts.sample)) == (SAMPLE_SIZE + 5, SAMPLE_SIZE)


def test_switch_that_is_off_holds_for_the_sweep_and_its_forecast(
    session: Session, sweeper: Sweeper
) -> None:
    add_people(session, 3)
    auto_create.set_enabled(session, on=False, source=Source("cli"), now=NOW)
    session.commit()

    foreseen, done = sweeper.start("cli", dry_run=True), sweeper.start("cli")

    assert (foreseen.scanned, foreseen.created, done.scanned, done.created) == (3, 0, 3, 0)


def test_switch_turned_on_heals_at_the_next_sweep(session: Session, sweeper: Sweeper) -> None:
    add_people(session, 3)
    auto_create.set_enabled(session, on=False, source=Source("cli"), now=NOW)
    session.commit()
    sweeper.start("cli")
    auto_create.set_enabled(session, on=True, source=Source("cli"), now=NOW)
    session.commit()

    assert sweeper.start("cli").created == 3


def test_only_the_invited_are_provided_for_where_only_they_may_come(
    session: Session, services: Services
) -> None:
    add_expected(session, 1)
    add_others(session)
    strict = replace(services.provisioning, rules=Rules(invited_only=True))

    counts = build_sweeper(strict).start("cli")

    assert (counts.linked, counts.created, profiles(session)) == (1, 0, 1)


def test_rules_hold_for_the_sweep_too(session: Session, services: Services) -> None:
    add_people(session, 2)
    strict = replace(services.provisioning, rules=Rules(auto_create=False))

    counts = build_sweeper(strict).start("cli")

    assert (counts.scanned, counts.created, profiles(session)) == (2, 0, 0)


def test_run_row_tells_the_whole_story(session: Session, sweeper: Sweeper) -> None:
    add_people(session, 3)

    sweeper.start("cli")

    run = session.scalars(select(SweepRun)).one()
    assert (run.status, run.trigger, run.total, run.created) == ("succeeded", "cli", 3, 3)
    assert run.finished_at is not None


def test_unexpected_error_closes_the_run_as_failed(session: Session, sweeper: Sweeper) -> None:
    add_ambiguous(session, 1)

    def provide(clerk_id: str) -> object:
        raise RuntimeError(clerk_id)

    with pytest.raises(RuntimeError):
        replace(sweeper, ensure_user=provide).start("cli")  # type: ignore[arg-type] # raises

    run = session.scalars(select(SweepRun)).one()
    assert (run.status, run.error) == ("failed", "RuntimeError")


def test_owner_who_lost_the_lease_stops(session: Session, sweeper: Sweeper) -> None:
    add_ambiguous(session, 4)
    minutes = count(step=60)

    def provide(clerk_id: str) -> object:
        session.execute(update(SweepRun).values(owner="another"))
        session.commit()
        return sweeper.ensure_user(clerk_id)

    slow = replace(sweeper, ensure_user=provide, monotonic=minutes.__next__)  # type: ignore[arg-type] # wraps it
    with pytest.raises(LeaseLostError):
        slow.start("cli")

    assert profiles(session) == 1


def test_batch_of_an_owner_who_lost_the_lease_is_not_written(
    session: Session, sweeper: Sweeper
) -> None:
    add_people(session, 4)

    def steal(_: object) -> None:
        session.execute(update(SweepRun).values(owner="another"))
        session.commit()

    with pytest.raises(LeaseLostError):
        replace(sweeper, on_progress=steal).start("cli")

    assert profiles(session) == 0


def test_clock_does_not_start_twice_in_an_interval(session: Session, sweeper: Sweeper) -> None:
    first = sweeper.start_if_due(timedelta(minutes=1))

    second = sweeper.start_if_due(timedelta(minutes=1))

    assert (first is not None, second) == (True, None)


def test_queued_run_is_picked_up(session: Session, sweeper: Sweeper) -> None:
    session.add(SweepRun(status="queued", trigger="admin"))
    add_people(session, 1)

    counts = sweeper.pick_up()

    assert counts is not None
    assert (counts.created, sweeper.pick_up()) == (1, None)


def test_active_run_refuses_another(session: Session, sweeper: Sweeper) -> None:
    session.add(SweepRun(status="running", trigger="clock", owner="x", heartbeat_at=func.now()))
    session.commit()

    with pytest.raises(SweepRunningError):
        sweeper.start("cli")


def add_run(session: Session, **facts: object) -> SweepRun:
    """A run of another process."""
    run = SweepRun(**{"status": "running", "trigger": "clock", "owner": "x", **facts})
    session.add(run)
    session.commit()
    return run


LONG_SILENT = {"heartbeat_at": func.now() - timedelta(minutes=1)}
RECENTLY_HEARD = {"heartbeat_at": func.now() - timedelta(seconds=5)}


def runs_of(session: Session) -> list[tuple[str, str, bool]]:
    """Status, trigger and dryness of all runs."""
    session.expire_all()
    rows = session.execute(
        select(SweepRun.status, SweepRun.trigger, SweepRun.dry_run).order_by(SweepRun.id)
    )
    return [(row.status, row.trigger, row.dry_run) for row in rows]


def test_command_takes_the_place_of_a_dead_run(session: Session, sweeper: Sweeper) -> None:
    add_people(session, 1)
    add_run(session, **LONG_SILENT)

    counts = sweeper.start_by_hand(dry_run=False)

    assert (counts.created, runs_of(session)) == (
        1,
        [("abandoned", "clock", False), ("succeeded", "cli", False)],
    )


def test_command_leaves_a_living_run_alone(session: Session, sweeper: Sweeper) -> None:
    add_run(session, **RECENTLY_HEARD)

    with pytest.raises(SweepRunningError):
        sweeper.start_by_hand(dry_run=False)

    assert runs_of(session) == [("running", "clock", False)]


@pytest.mark.parametrize(("trigger", "then"), [("admin", "admin"), ("clock", "cli")])
def test_command_runs_what_is_queued_as_its_own(
    session: Session, sweeper: Sweeper, trigger: str, then: str
) -> None:
    poison(session, add_people(session, 1)[0])
    sweeper.start("cli")
    session.execute(text("DROP TRIGGER poison ON mentorados"))
    session.execute(delete(SweepRun))
    add_run(session, status="queued", trigger=trigger, owner=None)

    counts = sweeper.start_by_hand(dry_run=False)

    # The record was not due: a command leaves nothing out, whoever has queued its run.
    assert (counts.created, runs_of(session)) == (1, [("succeeded", then, False)])


def test_dry_command_leaves_a_real_run_in_the_queue(session: Session, sweeper: Sweeper) -> None:
    add_people(session, 2)
    queued = add_run(session, status="queued", trigger="admin", owner=None)

    counts = sweeper.start_by_hand(dry_run=True)

    session.refresh(queued)
    assert (counts.created, profiles(session), queued.status) == (2, 0, "queued")
    assert (queued.owner, queued.started_at, queued.created) == (None, None, 0)


def test_real_command_does_a_queued_dry_run_first(session: Session, sweeper: Sweeper) -> None:
    add_people(session, 2)
    queued = add_run(session, status="queued", trigger="admin", owner=None, dry_run=True)

    counts = sweeper.start_by_hand(dry_run=False)

    session.refresh(queued)
    assert (counts.created, profiles(session)) == (2, 2)
    assert (queued.status, len(queued.sample or [])) == ("succeeded", 2)
    assert runs_of(session)[1:] == [("succeeded", "cli", False)]


def test_stopped_dry_command_leaves_nothing_in_the_queue(
    session: Session, sweeper: Sweeper
) -> None:
    add_people(session, 2)

    with pytest.raises(SweepStoppedError):
        replace(sweeper, should_stop=lambda: True).start_by_hand(dry_run=True)

    assert runs_of(session) == [("failed", "cli", True)]


def test_run_that_was_given_back_goes_on_counting(session: Session, sweeper: Sweeper) -> None:
    add_ambiguous(session, 3)
    asked = iter([False, False, True])  # the first is about the group of all three
    with pytest.raises(SweepStoppedError):
        replace(sweeper, should_stop=lambda: next(asked)).start("clock")

    counts = replace(sweeper, owner="another").pick_up()

    assert counts is not None
    assert (counts.created, counts.scanned, counts.total) == (3, 3, 3)


def test_look_finds_what_is_due_queued_or_dead_and_nothing_else(
    session: Session, sweeper: Sweeper
) -> None:
    first, idle = sweeper.take_over_if_due(), sweeper.take_over_if_due()
    add_run(session, **RECENTLY_HEARD)
    while_another_works = sweeper.take_over_if_due()
    session.execute(update(SweepRun).where(SweepRun.status == "running").values(**LONG_SILENT))
    session.commit()
    dead = sweeper.take_over_if_due()
    add_run(session, status="queued", trigger="admin", owner=None)
    queued = sweeper.take_over_if_due()

    found = [look is not None for look in (first, idle, while_another_works, dead, queued)]
    assert found == [True, False, False, True, True]


def test_process_that_stops_begins_nothing(session: Session, sweeper: Sweeper) -> None:
    assert replace(sweeper, should_stop=lambda: True).take_over_if_due() is None


def test_scheduler_looks_more_often_while_identities_wait(
    session: Session, sweeper: Sweeper
) -> None:
    hourly = replace(sweeper, interval=timedelta(hours=1), refresh_from_clerk=lambda _: None)
    ago = func.now() - timedelta(minutes=2)
    session.add(SweepRun(status="succeeded", trigger="clock", created_at=ago))
    session.commit()
    idle = hourly.take_over_if_due()

    add_people(session, 1)

    assert (idle, hourly.take_over_if_due() is not None) == (None, True)


def add_failed(session: Session, number: int) -> None:
    """Users with a record of failure that is due."""
    times = {"first_failed_at": NOW, "last_failed_at": NOW, "next_attempt_at": NOW}
    for index in range(number):
        who = f"failed_{index}"
        session.add(User(clerk_id=who))
        session.add(
            ProvisioningAttempt(clerk_id=who, state="pending", attempts=1, error_class="E", **times)
        )
    session.commit()


class Slow:
    """Ensures users, each of whom takes so many seconds of the sweeper's clock."""

    def __init__(self, sweeper: Sweeper, seconds: float) -> None:
        self.provide, self.seconds = sweeper.ensure_user, seconds
        self.clock, self.tried = Clock(), list[str]()
        self.created_before = list[int]()
        self.count_profiles: Callable[[], int] = lambda: 0

    def __call__(self, clerk_id: str) -> EnsureResult:
        self.clock.seconds += self.seconds
        self.tried.append(clerk_id)
        self.created_before.append(self.count_profiles())
        return self.provide(clerk_id)


def slowly(session: Session, sweeper: Sweeper, seconds: float) -> tuple[Sweeper, Slow]:
    slow = Slow(sweeper, seconds)
    slow.count_profiles = lambda: profiles(session)
    return replace(sweeper, ensure_user=slow, monotonic=slow.clock), slow


def test_newcomers_do_not_wait_for_users_who_have_failed(
    session: Session, sweeper: Sweeper
) -> None:
    add_failed(session, 3)
    add_people(session, 4)
    slow_sweeper, slow = slowly(session, sweeper, 1.2)

    slow_sweeper.start("clock")

    assert slow.created_before == [4, 5, 6]


def test_newcomers_wait_a_moment_only_for_users_who_are_slow_to_link(
    session: Session, sweeper: Sweeper
) -> None:
    add_ambiguous(session, 5)
    add_others(session)
    slow_sweeper, slow = slowly(session, sweeper, 1.2)

    slow_sweeper.start("clock")

    assert slow.created_before == [0, 1, 3, 4, 5]


def test_scheduler_s_run_ends_in_time_and_the_next_goes_on(
    session: Session, sweeper: Sweeper
) -> None:
    add_failed(session, 20)
    slow_sweeper, slow = slowly(session, sweeper, 1.2)

    slow_sweeper.start("clock")
    first = len(slow.tried)
    slow_sweeper.start("clock")

    assert (first, len(set(slow.tried)), profiles(session)) == (9, 18, 18)


def test_run_by_hand_leaves_nobody_out_and_looks_for_newcomers_meanwhile(
    session: Session, sweeper: Sweeper
) -> None:
    add_failed(session, 20)
    slow_sweeper, slow = slowly(session, sweeper, 1.2)

    def provide(clerk_id: str) -> EnsureResult:
        if len(slow.tried) == 4:
            add_others(session)
        return slow(clerk_id)

    counts = replace(slow_sweeper, ensure_user=provide).start("admin")

    newcomer = slow.created_before[9] - slow.created_before[8]
    assert (counts.created, profiles(session), newcomer) == (21, 21, 2)


def test_users_who_are_denied_leave_no_record_that_is_due_for_ever(
    session: Session, sweeper: Sweeper
) -> None:
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

    left = session.scalars(select(func.count()).select_from(ProvisioningAttempt)).one()
    assert (counts.total, counts.scanned, left) == (0, 0, 0)


def test_users_who_wait_for_the_switch_leave_no_record_and_are_found_when_it_is_on(
    session: Session, sweeper: Sweeper
) -> None:
    add_failed(session, 2)
    auto_create.set_enabled(session, on=False, source=Source("cli"), now=NOW)
    session.commit()
    while_off = sweeper.start("clock")
    left = session.scalars(select(func.count()).select_from(ProvisioningAttempt)).one()
    auto_create.set_enabled(session, on=True, source=Source("cli"), now=NOW)
    session.commit()

    assert (while_off.created, left, sweeper.start("clock").created) == (0, 0, 2)


def test_progress_is_shown(services: Services, session: Session) -> None:
    add_people(session, 2)
    shown: list[int] = []
    tell: Callable[..., None] = lambda counts: shown.append(counts.scanned)  # noqa: E731

    build_sweeper(services.provisioning, on_progress=tell).start("cli")

    assert (shown[0], shown[-1]) == (0, 2)


def test_inactive_profile_is_not_made_again(session: Session, sweeper: Sweeper) -> None:
    [user] = add_people(session, 1)
    profile = Mentorado(user_id=user.id, nome_completo="X", turma=Turma.NEON, ativo=SimNao.NAO)
    with background_transaction() as other:
        other.add(profile)

    assert sweeper.start("cli").scanned == 0


def test_process_that_stops_gives_the_run_back_to_the_queue(
    session: Session, sweeper: Sweeper
) -> None:
    add_ambiguous(session, 3)
    asked = iter([False, False, True])  # the first is about the group of all three

    with pytest.raises(SweepStoppedError):
        replace(sweeper, should_stop=lambda: next(asked)).start("clock")

    run = session.scalars(select(SweepRun)).one()
    assert (profiles(session), run.status, run.owner) == (1, "queued", None)


def test_run_that_was_given_back_is_finished_by_another_process(
    session: Session, sweeper: Sweeper
) -> None:
    add_people(session, 3)
    with pytest.raises(SweepStoppedError):
        replace(sweeper, should_stop=lambda: True).start("clock")

    counts = replace(sweeper, owner="another").pick_up()

    statuses = session.scalars(select(SweepRun.status)).all()
    assert counts is not None
    assert (counts.created, statuses) == (3, ["succeeded"])


def test_ctrl_c_closes_the_run(session: Session, sweeper: Sweeper) -> None:
    add_ambiguous(session, 1)

    def provide(clerk_id: str) -> object:
        raise KeyboardInterrupt(clerk_id)

    with pytest.raises(KeyboardInterrupt):
        replace(sweeper, ensure_user=provide).start("cli")  # type: ignore[arg-type] # raises

    run = session.scalars(select(SweepRun)).one()
    assert (run.status, run.error) == ("failed", "KeyboardInterrupt")


def test_person_helped_meanwhile_counts_as_existing(session: Session, sweeper: Sweeper) -> None:
    add_ambiguous(session, 1)

    def provide(clerk_id: str) -> object:
        sweeper.ensure_user(clerk_id)
        return sweeper.ensure_user(clerk_id)

    counts = replace(sweeper, ensure_user=provide).start("cli")  # type: ignore[arg-type] # wraps it

    assert (counts.existing, counts.created) == (1, 0)


def test_long_sweep_tells_how_far_it_is(session: Session, sweeper: Sweeper) -> None:
    add_ambiguous(session, 2)
    with capture_logs() as logs:
        replace(sweeper, monotonic=count(step=60).__next__).start("cli")

    progress = [line["scanned"] for line in logs if line["event"] == "sweep_progress"]
    assert list(dict.fromkeys(progress)) == [0, 1, 2]  # nobody could be linked in a group


def test_sweep_forgets_what_the_clock_did_long_ago(sweeper: Sweeper, session: Session) -> None:
    old = SweepRun(status=SweepStatus.SUCCEEDED, trigger="clock")
    old.created_at = sweeper.now() - timedelta(days=31)
    session.add(old)
    session.commit()
    old_id = old.id

    sweeper.start("clock")

    assert old_id not in session.scalars(select(SweepRun.id)).all()
