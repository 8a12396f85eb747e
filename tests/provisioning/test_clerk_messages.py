"""A deleted Clerk account is denied at once; its profile can be linked by the same address."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from auth.identity import Identity
from models import AuditEvent, Mentorado, User
from models.people import Turma
from provisioning.audit import Source
from provisioning.clerk_messages import handle_account_deletion
from provisioning.ensure import Outcome, ensure
from provisioning.errors import Denial
from provisioning.rules import Rules
from tests.support.users import BOB, NOW, PAGE, identity_of

WEBHOOK = Source("webhook", "req-webhook")
RETURNED = Identity("user_bob_again", "Bob", "BOB@example.com ", True)


def sign_in(session: Session, identity: Identity) -> Mentorado | None:
    profile = ensure(session, identity, source=PAGE, now=NOW, rules=Rules()).mentorado
    return session.get(Mentorado, profile.id) if profile else None


def delete_account(session: Session, clerk_id: str = BOB.clerk_id) -> User:
    handle_account_deletion(session, clerk_id, source=WEBHOOK, now=NOW)
    session.flush()
    return session.scalars(select(User).where(User.clerk_id == clerk_id)).one()


def test_deleted_user_is_denied_and_gets_no_new_profile(session: Session) -> None:
    sign_in(session, identity_of(BOB))
    delete_account(session)

    again = ensure(session, identity_of(BOB), source=PAGE, now=NOW, rules=Rules())

    assert (again.outcome, again.denial) == (Outcome.DENIED, Denial.USER_DELETED)
    assert again.mentorado is None


def test_profile_is_kept_and_linked_by_the_same_verified_address(session: Session) -> None:
    before = sign_in(session, identity_of(BOB))
    delete_account(session)

    after = ensure(session, RETURNED, source=PAGE, now=NOW, rules=Rules())

    assert before is not None
    assert after.mentorado is not None
    assert (after.outcome, after.mentorado.id) == (Outcome.LINKED, before.id)


def test_profile_of_a_deleted_user_loses_an_unverified_address(session: Session) -> None:
    before = sign_in(session, identity_of(BOB, verified=False))
    delete_account(session)

    after = sign_in(session, RETURNED)

    assert before is not None
    assert (after != before, before.user_id, before.email) == (True, None, None)


def test_address_that_an_admin_wrote_is_kept_when_the_owner_verified_another(
    session: Session,
) -> None:
    user = User(clerk_id=BOB.clerk_id, email="other@example.com")
    session.add(user)
    session.flush()  # the profile needs the id
    profile = Mentorado(user_id=user.id, nome_completo="B", email="b@example.com", turma=Turma.NEON)
    session.add(profile)
    delete_account(session)

    assert (profile.user_id, profile.email) == (None, "b@example.com")


def test_unknown_user_whose_account_was_deleted_is_denied(session: Session) -> None:
    delete_account(session, "user_unknown")

    late = ensure(session, Identity("user_unknown"), source=WEBHOOK, now=NOW, rules=Rules())

    assert late.denial is Denial.USER_DELETED


@pytest.mark.parametrize("times", [1, 2])
def test_account_deletion_is_recorded_once(session: Session, times: int) -> None:
    sign_in(session, identity_of(BOB))

    for _ in range(times):
        delete_account(session)

    events = session.scalars(select(AuditEvent.event).order_by(AuditEvent.id))
    assert list(events) == ["mentorado_created", "user_deleted"]
