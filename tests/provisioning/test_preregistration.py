"""Pre-registration: one profile for each address, before or after the first login."""

from collections.abc import Mapping

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from auth.identity import Identity
from models import AuditEvent, Mentorado, MetricaMensal, User
from provisioning.audit import Source
from provisioning.ensure import Outcome, ensure
from provisioning.errors import MentoradoExistsError
from provisioning.preregistration import RegistrationOutcome, Verdict, pre_register
from provisioning.rules import Rules
from tests.support.users import NOW, PAGE

ADMIN = Source("admin", "req-1", actor_id=1)
EVA: Mapping[str, object] = {"nome_completo": "Eva Melo", "email": "eva@example.com"}


def register(session: Session, values: Mapping[str, object] = EVA) -> RegistrationOutcome:
    registered = pre_register(session, values, source=ADMIN, now=NOW)
    session.flush()
    session.expire_all()  # as its commit would
    return registered


def sign_in(
    session: Session, *, verified: bool = True, email: str = "eva@example.com"
) -> tuple[Outcome, Mentorado]:
    identity = Identity("eva", "Eva", email, verified)
    ensured = ensure(session, identity, source=PAGE, now=NOW, rules=Rules())
    assert ensured.mentorado is not None
    return ensured.outcome, session.get_one(Mentorado, ensured.mentorado.id)


def count_profiles(session: Session) -> int:
    return session.scalars(select(func.count()).select_from(Mentorado)).one()


def test_pre_registered_profile_has_no_owner_and_the_default_goals(session: Session) -> None:
    profile = session.get_one(Mentorado, register(session).mentorado_id)

    assert (profile.user_id, profile.meta_faturamento, profile.created_automatically) == (
        None,
        16_000,
        False,
    )


def test_pre_registered_profile_is_linked_to_the_verified_address(session: Session) -> None:
    unlinked = register(session)

    outcome, profile = sign_in(session, email="EVA@example.com ")

    assert (outcome, profile.id) == (Outcome.LINKED, unlinked.mentorado_id)


@pytest.mark.parametrize("email", ["eva@example.com", " EVA@Example.com", "\u00a0eva@EXAMPLE.com"])
def test_second_profile_for_an_address_is_refused(session: Session, email: str) -> None:
    first = register(session)

    with pytest.raises(MentoradoExistsError) as error:
        register(session, {**EVA, "email": email})

    assert error.value.mentorado_id == first.mentorado_id


def test_profiles_without_address_may_have_the_same_name(session: Session) -> None:
    register(session, {"nome_completo": "Eva"})

    assert register(session, {"nome_completo": "Eva"}).verdict is Verdict.NEW


def test_untouched_profile_takes_over_the_registered_data(session: Session) -> None:
    _, own = sign_in(session)

    registered = register(session, {**EVA, "meta_leads": 70})

    assert (registered.verdict, registered.clerk_id) == (Verdict.TAKES_OVER, "eva")
    assert (own.nome_completo, own.meta_leads, count_profiles(session)) == ("Eva Melo", 70, 1)


def test_profile_that_took_data_over_is_no_longer_untouched(session: Session) -> None:
    sign_in(session)
    register(session)

    with pytest.raises(MentoradoExistsError):
        register(session)


def test_profile_with_data_blocks_the_registration(session: Session) -> None:
    _, own = sign_in(session)
    session.add(MetricaMensal(mentorado_id=own.id, ano=2026, mes=1))
    session.flush()

    with pytest.raises(MentoradoExistsError) as error:
        register(session)

    assert error.value.mentorado_id == own.id


def test_unverified_address_does_not_block_the_registration(session: Session) -> None:
    sign_in(session, verified=False)

    assert register(session).verdict is Verdict.NEW


def test_owned_profile_with_the_address_blocks_the_registration(session: Session) -> None:
    _, own = sign_in(session, email="other@example.com")
    own.email = "eva@example.com"
    session.flush()

    with pytest.raises(MentoradoExistsError):
        register(session)


def test_user_without_profile_is_linked_at_the_next_login(session: Session) -> None:
    session.add(User(clerk_id="eva", email="eva@example.com", email_verified=True))

    registered = register(session)

    assert (registered.verdict, sign_in(session)[0]) == (Verdict.NEW, Outcome.LINKED)


def test_untouched_profile_is_replaced_once_the_address_is_verified(
    session: Session,
) -> None:
    sign_in(session, verified=False)
    unlinked = register(session)

    outcome, profile = sign_in(session, verified=True)

    assert (outcome, profile.id) == (Outcome.CLAIMED, unlinked.mentorado_id)
    assert count_profiles(session) == 1


@pytest.mark.parametrize(
    ("signs_in_first", "action"), [(False, "pre_register"), (True, "take_over")]
)
def test_audit_event_of_a_registration_names_its_admin(
    session: Session, signs_in_first: bool, action: str
) -> None:
    if signs_in_first:
        sign_in(session)

    registered = register(session)

    newest = session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc()).limit(1)).one()
    assert (newest.details, newest.actor_id) == ({"action": action}, 1)
    assert newest.mentorado_id == registered.mentorado_id
