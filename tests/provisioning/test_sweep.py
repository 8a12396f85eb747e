"""The sweep: whoever is due a profile gets one, nobody else does, nobody holds the others up."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from extensions import background_transaction
from house import House
from models import AuditEvent, Mentorado, SweepRun, User
from models.columns import SimNao
from models.mentorado import Turma
from models.user import Role
from provisioning.errors import ProvisioningError
from provisioning.linking import Rules
from provisioning.runs import LeaseLostError, SweepRunningError
from provisioning.sweep import Sweeper, SweepStoppedError
from scheduler import build_sweeper
from tests.cast import NOW


@pytest.fixture
def sweeper(house: House, session: Session) -> Sweeper:
    """A sweeper on the test's own connection, with small batches."""
    return build_sweeper(house.guarantee, batch_size=2)


def add_people(session: Session, count: int, **facts: object) -> list[User]:
    people = [User(clerk_id=f"user_{index}", **facts) for index in range(count)]
    session.add_all(people)
    session.commit()
    return people


def profiles(session: Session) -> int:
    return session.scalars(select(func.count()).select_from(Mentorado)).one()


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


def test_person_who_fails_does_not_hold_up_the_others(session: Session, sweeper: Sweeper) -> None:
    add_people(session, 5)

    def provide(clerk_id: str) -> object:
        if clerk_id == "user_2":
            raise ProvisioningError("poisoned")
        return sweeper.provide(clerk_id)

    counts = replace(sweeper, provide=provide).start("cli")  # type: ignore[arg-type] # raises

    assert (counts.created, counts.failed, counts.scanned) == (4, 1, 5)


def test_dry_run_counts_and_writes_nothing(session: Session, sweeper: Sweeper) -> None:
    add_people(session, 3)
    eva = User(clerk_id="user_eva", email="eva@example.com", email_verified=True)
    session.add(eva)
    session.add(Mentorado(nome_completo="Eva", email="eva@example.com", turma=Turma.NEON))
    session.commit()

    counts = sweeper.start("cli", dry_run=True)

    assert (counts.created, counts.linked, counts.scanned) == (3, 1, 4)
    assert profiles(session) == 1


def test_rules_hold_for_the_sweep_too(session: Session, house: House) -> None:
    add_people(session, 2)
    strict = replace(house.guarantee, rules=Rules(auto_create=False))

    counts = build_sweeper(strict).start("cli")

    assert (counts.scanned, counts.created, profiles(session)) == (2, 0, 0)


def test_run_row_tells_the_whole_story(session: Session, sweeper: Sweeper) -> None:
    add_people(session, 3)

    sweeper.start("cli")

    run = session.scalars(select(SweepRun)).one()
    assert (run.status, run.trigger, run.total, run.created) == ("succeeded", "cli", 3, 3)
    assert run.finished_at is not None


def test_unexpected_error_closes_the_run_as_failed(session: Session, sweeper: Sweeper) -> None:
    add_people(session, 1)

    def provide(clerk_id: str) -> object:
        raise RuntimeError(clerk_id)

    with pytest.raises(RuntimeError):
        replace(sweeper, provide=provide).start("cli")  # type: ignore[arg-type] # raises

    run = session.scalars(select(SweepRun)).one()
    assert (run.status, run.error) == ("failed", "RuntimeError")


def test_owner_who_lost_the_lease_stops(session: Session, sweeper: Sweeper) -> None:
    add_people(session, 4)
    hours = iter(range(0, 3600, 60))

    def provide(clerk_id: str) -> object:
        session.execute(SweepRun.__table__.update().values(owner="another"))  # type: ignore[attr-defined] # a Table
        session.commit()
        return sweeper.provide(clerk_id)

    slow = replace(sweeper, provide=provide, monotonic=lambda: float(next(hours)))  # type: ignore[arg-type] # wraps it
    with pytest.raises(LeaseLostError):
        slow.start("cli")

    assert profiles(session) == 1


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


def test_progress_is_shown(house: House, session: Session) -> None:
    add_people(session, 2)
    shown: list[int] = []
    tell: Callable[..., None] = lambda counts: shown.append(counts.scanned)  # noqa: E731

    build_sweeper(house.guarantee, on_progress=tell).start("cli")

    assert (shown[0], shown[-1]) == (0, 2)


def test_inactive_profile_is_not_made_again(session: Session, sweeper: Sweeper) -> None:
    [user] = add_people(session, 1)
    profile = Mentorado(user_id=user.id, nome_completo="X", turma=Turma.NEON, ativo=SimNao.NAO)
    with background_transaction() as other:
        other.add(profile)

    assert sweeper.start("cli").scanned == 0


def test_process_that_stops_leaves_the_run_closed(session: Session, sweeper: Sweeper) -> None:
    add_people(session, 3)
    asked = iter([False, True])

    with pytest.raises(SweepStoppedError):
        replace(sweeper, should_stop=lambda: next(asked)).start("clock")

    assert profiles(session) == 1
    assert session.scalars(select(SweepRun.status)).one() == "failed"


def test_person_helped_meanwhile_counts_as_existing(session: Session, sweeper: Sweeper) -> None:
    add_people(session, 1)

    def provide(clerk_id: str) -> object:
        sweeper.provide(clerk_id)
        return sweeper.provide(clerk_id)

    counts = replace(sweeper, provide=provide).start("cli")  # type: ignore[arg-type] # wraps it

    assert (counts.existing, counts.created) == (1, 0)


def test_long_sweep_tells_how_far_it_is(session: Session, sweeper: Sweeper) -> None:
    add_people(session, 2)
    minutes = iter(range(0, 3600, 60))

    with capture_logs() as logs:
        replace(sweeper, monotonic=lambda: float(next(minutes))).start("cli")

    progress = [line["scanned"] for line in logs if line["event"] == "sweep_progress"]
    assert progress == [1, 2]
