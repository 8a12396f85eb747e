"""What admins change: once, recorded, and never behind somebody's back."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from models import AuditEvent, Mentorado, MetricaMensal, User
from models.mentorado import Turma
from provisioning import admin_actions
from provisioning.admin_actions import (
    ConflictError,
    UnknownMentoradoError,
    UnknownUserError,
    edit,
)
from provisioning.audit import Source
from provisioning.ensure import Outcome, ensure
from provisioning.errors import Denial
from provisioning.rules import Rules
from tests.support.users import ALICE, BOB, NOW, PAGE, identity_of

ADMIN = Source("admin", "req-1", actor_id=1_999_999_999)  # no user of these tests
NOBODY = 2_000_000_000


@pytest.fixture
def bob(session: Session) -> User:
    """Bob, signed in once: his profile is automatic and untouched."""
    ensured = ensure(session, identity_of(BOB), source=PAGE, now=NOW, rules=Rules())
    return session.get_one(User, ensured.user.id)


@pytest.fixture
def waiting(session: Session) -> Mentorado:
    """A profile without owner."""
    profile = Mentorado(nome_completo="Eva", email="eva@example.com", turma=Turma.NEON)
    session.add(profile)
    session.flush()  # the tests need its id
    return profile


def owner(session: Session, profile: Mentorado) -> int | None:
    return session.scalars(select(Mentorado.user_id).where(Mentorado.id == profile.id)).one()


def actions(session: Session) -> list[str]:
    events = select(AuditEvent.details).where(AuditEvent.event == "admin_action")
    details = session.scalars(events.order_by(AuditEvent.id))
    return [detail["action"] for detail in details if detail]


def test_blocked_person_is_denied(session: Session, bob: User) -> None:
    admin_actions.block(session, bob.id, source=ADMIN, now=NOW)

    ensured = ensure(session, identity_of(BOB), source=PAGE, now=NOW, rules=Rules())

    assert (ensured.outcome, ensured.denial) == (Outcome.DENIED, Denial.USER_BLOCKED)


def test_person_who_is_allowed_again_is_served(session: Session, bob: User) -> None:
    admin_actions.block(session, bob.id, source=ADMIN, now=NOW)
    admin_actions.allow(session, bob.id, source=ADMIN)

    ensured = ensure(session, identity_of(BOB), source=PAGE, now=NOW, rules=Rules())

    assert ensured.outcome is Outcome.EXISTING


def test_what_is_done_twice_is_recorded_once(session: Session, bob: User) -> None:
    for _ in range(2):
        admin_actions.block(session, bob.id, source=ADMIN, now=NOW)
    for _ in range(2):
        admin_actions.allow(session, bob.id, source=ADMIN)

    assert actions(session) == ["block", "allow"]


def test_link_gives_a_free_profile_and_folds_the_untouched_one(
    session: Session, bob: User, waiting: Mentorado
) -> None:
    concerned = admin_actions.link(session, waiting.id, bob.id, source=ADMIN, now=NOW)

    owned = session.scalars(select(func.count()).where(Mentorado.user_id == bob.id)).one()
    assert (owner(session, waiting), owned, concerned) == (bob.id, 1, [BOB.clerk_id])


def test_link_does_not_take_a_profile_from_its_owner(
    session: Session, bob: User, alice: Mentorado
) -> None:
    with pytest.raises(ConflictError):
        admin_actions.link(session, alice.id, bob.id, source=ADMIN, now=NOW)


def test_link_does_not_throw_a_used_profile_away(
    session: Session, alice: Mentorado, waiting: Mentorado
) -> None:
    session.add(MetricaMensal(mentorado_id=alice.id, ano=2026, mes=1))
    assert alice.user_id is not None

    with pytest.raises(ConflictError):
        admin_actions.link(session, waiting.id, alice.user_id, source=ADMIN, now=NOW)


def test_link_that_stands_already_changes_nothing(session: Session, alice: Mentorado) -> None:
    assert alice.user_id is not None

    admin_actions.link(session, alice.id, alice.user_id, source=ADMIN, now=NOW)

    assert actions(session) == []


def test_unlinked_profile_waits_again(session: Session, alice: Mentorado) -> None:
    concerned = admin_actions.unlink(session, alice.id, source=ADMIN, now=NOW)
    again = admin_actions.unlink(session, alice.id, source=ADMIN, now=NOW)

    assert (owner(session, alice), concerned, again) == (None, [ALICE.clerk_id], [])


def test_unlinked_automatic_profile_is_not_folded_away_later(session: Session, bob: User) -> None:
    profile = session.scalars(select(Mentorado).where(Mentorado.user_id == bob.id)).one()

    admin_actions.unlink(session, profile.id, source=ADMIN, now=NOW)

    assert profile.is_unedited is False


def test_removed_profile_is_not_made_again(session: Session, alice: Mentorado) -> None:
    concerned = admin_actions.remove(session, alice.id, source=ADMIN, now=NOW)

    ensured = ensure(session, identity_of(ALICE), source=PAGE, now=NOW, rules=Rules())

    assert (concerned, ensured.denial) == ([ALICE.clerk_id], Denial.USER_BLOCKED)
    assert session.scalars(select(func.count()).select_from(Mentorado)).one() == 0


def test_profile_without_owner_is_removed_as_well(session: Session, waiting: Mentorado) -> None:
    assert admin_actions.remove(session, waiting.id, source=ADMIN, now=NOW) == []


def test_profile_that_another_table_holds_on_to_stays(session: Session, alice: Mentorado) -> None:
    session.execute(text("CREATE TABLE contratos (m integer NOT NULL REFERENCES mentorados (id))"))
    session.execute(text("INSERT INTO contratos VALUES (:id)"), {"id": alice.id})

    with pytest.raises(ConflictError):
        admin_actions.remove(session, alice.id, source=ADMIN, now=NOW)


CALLS: dict[str, tuple[Callable[[Session], object], type[Exception]]] = {
    "block": (lambda s: admin_actions.block(s, NOBODY, source=ADMIN, now=NOW), UnknownUserError),
    "allow": (lambda s: admin_actions.allow(s, NOBODY, source=ADMIN), UnknownUserError),
    "link": (
        lambda s: admin_actions.link(s, NOBODY, 1, source=ADMIN, now=NOW),
        UnknownMentoradoError,
    ),
    "unlink": (
        lambda s: admin_actions.unlink(s, NOBODY, source=ADMIN, now=NOW),
        UnknownMentoradoError,
    ),
    "remove": (
        lambda s: admin_actions.remove(s, NOBODY, source=ADMIN, now=NOW),
        UnknownMentoradoError,
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_unknown_ids_are_told_apart(session: Session, name: str) -> None:
    call, error = CALLS[name]

    with pytest.raises(error):
        call(session)


def test_link_to_an_unknown_user_is_refused(session: Session, waiting: Mentorado) -> None:
    with pytest.raises(UnknownUserError):
        admin_actions.link(session, waiting.id, NOBODY, source=ADMIN, now=NOW)


def test_link_to_a_deleted_account_is_refused(
    session: Session, waiting: Mentorado, bob: User
) -> None:
    bob.deleted_at = NOW

    with pytest.raises(ConflictError, match="deleted"):
        admin_actions.link(session, waiting.id, bob.id, source=ADMIN, now=NOW)


@pytest.mark.parametrize(
    ("verified", "written", "kept"),
    [(True, False, True), (False, False, False), (False, True, True)],
    ids=["proven", "only given", "written by an admin"],
)
def test_unlinked_automatic_profile_keeps_an_address_only_if_it_may_be_found_by_it(
    session: Session, *, verified: bool, written: bool, kept: bool
) -> None:
    stranger = identity_of(BOB, verified=verified)
    made = ensure(session, stranger, source=PAGE, now=NOW, rules=Rules()).mentorado
    assert made is not None
    if written:
        edit(session, made.id, changes={"email": "ana@example.com"}, source=ADMIN, now=NOW)

    admin_actions.unlink(session, made.id, source=ADMIN, now=NOW)

    assert (session.get_one(Mentorado, made.id).email is not None) is kept


def test_address_that_a_stranger_gave_before_another_is_not_kept(session: Session) -> None:
    stranger = identity_of(BOB, verified=False)
    made = ensure(session, stranger, source=PAGE, now=NOW, rules=Rules()).mentorado
    assert made is not None
    moved = replace(stranger, email="other@example.com", email_verified=True)
    ensure(session, moved, source=PAGE, now=NOW, rules=Rules())

    admin_actions.unlink(session, made.id, source=ADMIN, now=NOW)

    assert session.get_one(Mentorado, made.id).email is None


def test_unlinked_profile_ends_the_context_of_a_user_who_may_claim_it(
    session: Session, alice: Mentorado, bob: User
) -> None:
    alice.email = bob.email
    session.flush()

    concerned = admin_actions.unlink(session, alice.id, source=ADMIN, now=NOW)

    assert concerned == sorted([ALICE.clerk_id, bob.clerk_id])


def test_link_gives_a_profile_to_somebody_who_has_none(
    session: Session, waiting: Mentorado
) -> None:
    user = User(clerk_id="user_without")
    session.add(user)
    session.flush()  # the call needs its id

    admin_actions.link(session, waiting.id, user.id, source=ADMIN, now=NOW)

    assert owner(session, waiting) == user.id
