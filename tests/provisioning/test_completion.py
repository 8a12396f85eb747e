"""The sweep's last step: people of whom their provider has not told everything yet."""

from dataclasses import replace

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from house import House
from identity.local import Person
from models import Mentorado, ProvisioningAttempt, User
from models.mentorado import Turma
from provisioning.ensure import Ensured
from provisioning.errors import (
    DatabaseUnavailableError,
    IdentityUnavailableError,
    ProvisioningUnavailableError,
)
from provisioning.people import is_complete
from provisioning.sweep import Sweeper
from scheduler import build_sweeper
from tests.cast import NOW

LATE = Person("user_late", "Lia Prado", "lia@example.com")


@pytest.fixture
def sweeper(house: House, session: Session) -> Sweeper:
    """A sweeper whose provider knows Lia; the database has only heard her id."""
    assert house.local is not None
    house.local.remember(LATE)
    session.add(User(clerk_id=LATE.clerk_id))
    session.commit()
    return build_sweeper(house.guarantee)


def waiting_profile(session: Session) -> Mentorado:
    profile = Mentorado(nome_completo="Lia Pré", email=LATE.email, turma=Turma.NEON)
    session.add(profile)
    session.commit()
    return profile


class Refusing:
    """What completes people, in trouble; counts how often it was asked."""

    def __init__(self, error: Exception) -> None:
        self.error, self.asked = error, 0

    def __call__(self, clerk_id: str) -> Ensured:
        self.asked += 1
        raise self.error


def test_late_address_finds_what_waits_for_it(session: Session, sweeper: Sweeper) -> None:
    waiting = waiting_profile(session)

    counts = sweeper.start("cli")

    session.expire_all()
    assert waiting.user_id is not None
    assert (counts.created, counts.linked, is_complete(session, LATE.clerk_id)) == (1, 1, True)


def test_completed_profile_carries_the_name(session: Session, sweeper: Sweeper) -> None:
    sweeper.start("cli")

    assert session.scalars(select(Mentorado.nome_completo)).one() == LATE.name


def test_completion_counts_nobody_for_whom_nothing_changed(
    session: Session, sweeper: Sweeper
) -> None:
    assert sweeper.start("cli").scanned == 1


def test_person_unknown_to_the_provider_is_not_asked_about_again(
    session: Session, sweeper: Sweeper
) -> None:
    session.add(User(clerk_id="user_of_another_time"))
    session.commit()

    sweeper.start("cli")

    assert is_complete(session, "user_of_another_time")


def test_provider_that_is_away_is_asked_once_and_the_run_succeeds(
    session: Session, sweeper: Sweeper
) -> None:
    session.add_all(User(clerk_id=f"user_{number}") for number in range(3))
    session.commit()
    away = Refusing(IdentityUnavailableError("away"))

    counts = replace(sweeper, complete=away).start("cli")

    assert (counts.created, away.asked) == (4, 1)


def test_person_who_cannot_be_completed_keeps_nobody_waiting(
    session: Session, sweeper: Sweeper
) -> None:
    session.add(User(clerk_id="user_other"))
    session.commit()
    failing = Refusing(ProvisioningUnavailableError("not just now"))

    replace(sweeper, complete=failing).start("cli")

    assert failing.asked == 2


def test_database_that_goes_away_ends_the_run(sweeper: Sweeper) -> None:
    with pytest.raises(DatabaseUnavailableError):
        replace(sweeper, complete=Refusing(DatabaseUnavailableError("gone"))).start("cli")


def test_dry_run_asks_nobody(sweeper: Sweeper) -> None:
    asked = Refusing(AssertionError())

    replace(sweeper, complete=asked).start("cli", dry_run=True)

    assert asked.asked == 0


def test_case_for_the_attempts_is_left_to_them(session: Session, sweeper: Sweeper) -> None:
    times = {"first_failed_at": NOW, "last_failed_at": NOW, "next_attempt_at": NOW}
    session.add(
        ProvisioningAttempt(
            clerk_id=LATE.clerk_id, state="dead", attempts=8, error_class="E", **times
        )
    )
    session.commit()
    asked = Refusing(AssertionError())

    replace(sweeper, complete=asked).start("cli")

    assert asked.asked == 0
