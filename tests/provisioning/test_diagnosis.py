"""The diagnosis returns facts about one user and nothing about other users."""

import pytest
from sqlalchemy.orm import Session

from models import Mentorado, User
from models.people import Turma
from provisioning.user_lists import diagnose
from tests.support.users import ALICE, BOB, failed_attempt


def add_bob(session: Session, *, verified: bool = True) -> None:
    session.add(User(clerk_id=BOB.clerk_id, email=BOB.email, email_verified=verified))
    session.flush()


def pre_register(session: Session, count: int) -> None:
    for _ in range(count):
        session.add(Mentorado(nome_completo="Bob", email=BOB.email, turma=Turma.NEON))
    session.flush()


def test_user_with_profile_is_linked(session: Session, alice: Mentorado) -> None:
    diagnosis = diagnose(session, ALICE.clerk_id)

    assert (diagnosis.linked, diagnosis.pending_attempt) == (True, False)


@pytest.mark.parametrize(
    ("count", "expected"), [(0, (False, False)), (1, (True, False)), (2, (True, True))]
)
def test_matches_of_a_verified_address_are_counted(
    session: Session, count: int, expected: tuple[bool, bool]
) -> None:
    add_bob(session)
    pre_register(session, count)

    diagnosis = diagnose(session, BOB.clerk_id)

    assert (diagnosis.unlinked_match, diagnosis.multiple_matches) == expected


def test_pre_registrations_are_hidden_from_an_unverified_address(session: Session) -> None:
    add_bob(session, verified=False)
    pre_register(session, 2)

    diagnosis = diagnose(session, BOB.clerk_id)

    assert (diagnosis.unlinked_match, diagnosis.multiple_matches) == (False, False)


def test_failed_attempt_is_pending(session: Session) -> None:
    add_bob(session)
    session.add(failed_attempt(BOB.clerk_id, "pending", error_class="OperationalError"))
    session.flush()

    assert diagnose(session, BOB.clerk_id).pending_attempt is True
