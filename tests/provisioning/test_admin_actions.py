"""Admin actions: applied once, audited, refused on conflicts, with the users to invalidate."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import AuditEvent, Mentorado, MetricaMensal, User
from models.people import Turma
from provisioning import admin_actions
from provisioning.admin_actions import edit
from provisioning.audit import Source
from provisioning.ensure import Outcome, ensure
from provisioning.errors import ConflictError, Denial, UnknownMentoradoError, UnknownUserError
from provisioning.rules import Rules
from tests.support.users import ALICE, BOB, NOW, PAGE, identity_of

ADMIN = Source("admin", "req-1", actor_id=1_999_999_999)  # not the id of a user in these tests
UNKNOWN_ID = 2_000_000_000


@pytest.fixture
def bob(session: Session) -> User:
    """Bob, signed in once: his profile is automatic and untouched."""
    ensured = ensure(session, identity_of(BOB), source=PAGE, now=NOW, rules=Rules())
    return session.get_one(User, ensured.user.id)


@pytest.fixture
def unlinked(session: Session) -> Mentorado:
    """A pre-registered profile."""
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


def test_blocked_user_is_denied(session: Session, bob: User) -> None:
    admin_actions.block(session, bob.id, source=ADMIN, now=NOW)

    ensured = ensure(session, identity_of(BOB), source=PAGE, now=NOW, rules=Rules())

    assert (ensured.outcome, ensured.denial) == (Outcome.DENIED, Denial.USER_BLOCKED)


def test_user_who_is_allowed_again_keeps_the_profile(session: Session, bob: User) -> None:
    admin_actions.block(session, bob.id, source=ADMIN, now=NOW)
    admin_actions.allow(session, bob.id, source=ADMIN)

    ensured = ensure(session, identity_of(BOB), source=PAGE, now=NOW, rules=Rules())

    assert ensured.outcome is Outcome.EXISTING


def test_repeated_action_is_recorded_once(session: Session, bob: User) -> None:
    for _ in range(2):
        admin_actions.block(session, bob.id, source=ADMIN, now=NOW)
    for _ in range(2):
        admin_actions.allow(session, bob.id, source=ADMIN)

    assert actions(session) == ["block", "allow"]


def test_link_assigns_an_unlinked_profile_and_deletes_the_untouched_one(
    session: Session, bob: User, unlinked: Mentorado
) -> None:
    affected = admin_actions.link(session, unlinked.id, bob.id, source=ADMIN, now=NOW)

    owned = session.scalars(select(func.count()).where(Mentorado.user_id == bob.id)).one()
    assert (owner(session, unlinked), owned, affected) == (bob.id, 1, [BOB.clerk_id])


def test_link_of_an_owned_profile_is_refused(session: Session, bob: User, alice: Mentorado) -> None:
    with pytest.raises(ConflictError):
        admin_actions.link(session, alice.id, bob.id, source=ADMIN, now=NOW)


def test_link_is_refused_for_a_user_whose_profile_has_data(
    session: Session, alice: Mentorado, unlinked: Mentorado
) -> None:
    session.add(MetricaMensal(mentorado_id=alice.id, ano=2026, mes=1))
    assert alice.user_id is not None

    with pytest.raises(ConflictError):
        admin_actions.link(session, unlinked.id, alice.user_id, source=ADMIN, now=NOW)


def test_link_that_exists_already_changes_nothing(session: Session, alice: Mentorado) -> None:
    assert alice.user_id is not None

    admin_actions.link(session, alice.id, alice.user_id, source=ADMIN, now=NOW)

    assert actions(session) == []


def test_unlink_removes_the_owner_once(session: Session, alice: Mentorado) -> None:
    affected = admin_actions.unlink(session, alice.id, source=ADMIN, now=NOW)
    again = admin_actions.unlink(session, alice.id, source=ADMIN, now=NOW)

    assert (owner(session, alice), affected, again) == (None, [ALICE.clerk_id], [])


def test_unlinked_automatic_profile_is_no_longer_unedited(session: Session, bob: User) -> None:
    profile = session.scalars(select(Mentorado).where(Mentorado.user_id == bob.id)).one()

    admin_actions.unlink(session, profile.id, source=ADMIN, now=NOW)

    assert profile.is_unedited is False


CALLS: dict[str, tuple[Callable[[Session], object], type[Exception]]] = {
    "block": (
        lambda s: admin_actions.block(s, UNKNOWN_ID, source=ADMIN, now=NOW),
        UnknownUserError,
    ),
    "allow": (lambda s: admin_actions.allow(s, UNKNOWN_ID, source=ADMIN), UnknownUserError),
    "link": (
        lambda s: admin_actions.link(s, UNKNOWN_ID, 1, source=ADMIN, now=NOW),
        UnknownMentoradoError,
    ),
    "unlink": (
        lambda s: admin_actions.unlink(s, UNKNOWN_ID, source=ADMIN, now=NOW),
        UnknownMentoradoError,
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_unknown_id_raises_the_error_of_its_table(session: Session, name: str) -> None:
    call, error = CALLS[name]

    with pytest.raises(error):
        call(session)


def test_link_to_an_unknown_user_is_refused(session: Session, unlinked: Mentorado) -> None:
    with pytest.raises(UnknownUserError):
        admin_actions.link(session, unlinked.id, UNKNOWN_ID, source=ADMIN, now=NOW)


def test_link_to_a_deleted_account_is_refused(
    session: Session, unlinked: Mentorado, bob: User
) -> None:
    bob.deleted_at = NOW

    with pytest.raises(ConflictError, match="deleted"):
        admin_actions.link(session, unlinked.id, bob.id, source=ADMIN, now=NOW)


@pytest.mark.parametrize(
    ("verified", "edited", "kept"),
    [(True, False, True), (False, False, False), (False, True, True)],
    ids=["verified", "unverified", "edited by an admin"],
)
def test_unlinked_automatic_profile_keeps_only_a_verified_or_edited_address(
    session: Session, *, verified: bool, edited: bool, kept: bool
) -> None:
    identity = identity_of(BOB, verified=verified)
    created = ensure(session, identity, source=PAGE, now=NOW, rules=Rules()).mentorado
    assert created is not None
    if edited:
        edit(session, created.id, changes={"email": "ana@example.com"}, source=ADMIN, now=NOW)

    admin_actions.unlink(session, created.id, source=ADMIN, now=NOW)

    assert (session.get_one(Mentorado, created.id).email is not None) is kept


def test_unlink_drops_an_unverified_address_after_another_was_verified(session: Session) -> None:
    identity = identity_of(BOB, verified=False)
    created = ensure(session, identity, source=PAGE, now=NOW, rules=Rules()).mentorado
    assert created is not None
    changed = replace(identity, email="other@example.com", email_verified=True)
    ensure(session, changed, source=PAGE, now=NOW, rules=Rules())

    admin_actions.unlink(session, created.id, source=ADMIN, now=NOW)

    assert session.get_one(Mentorado, created.id).email is None


def test_unlink_invalidates_the_context_of_a_user_who_may_claim_the_profile(
    session: Session, alice: Mentorado, bob: User
) -> None:
    alice.email = bob.email
    session.flush()

    affected = admin_actions.unlink(session, alice.id, source=ADMIN, now=NOW)

    assert affected == sorted([ALICE.clerk_id, bob.clerk_id])


def test_link_assigns_a_profile_to_a_user_who_has_none(
    session: Session, unlinked: Mentorado
) -> None:
    user = User(clerk_id="user_without")
    session.add(user)
    session.flush()  # the call needs its id

    admin_actions.link(session, unlinked.id, user.id, source=ADMIN, now=NOW)

    assert owner(session, unlinked) == user.id
