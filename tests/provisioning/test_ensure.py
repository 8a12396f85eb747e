"""The guarantee, rule by rule, on real PostgreSQL."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from auth.identity import Identity
from dev.fake_clerk import DevUser
from models import AppSetting, AuditEvent, Mentorado, MetricaMensal, User
from models.columns import SimNao
from models.mentorado import Turma
from models.user import Role
from provisioning.ensure import EnsureResult, Outcome, ensure, forecast_decision
from provisioning.errors import Denial, StaleDecisionError
from provisioning.loading import LoadedUser, lock_profile, upsert_and_load_user
from provisioning.profiles import MentoradoRow
from provisioning.rules import Action, DecisionFacts, Rules
from tests.support.users import ALICE, BOB, CHARLIE, NOW, PAGE, identity_of

Ensure = Callable[..., EnsureResult]
EVE = DevUser("user_eve", "Eve", "bob@example.com")  # has Bob's address


@pytest.fixture
def ensured(session: Session) -> Ensure:
    def call(who: Identity, rules: Rules = Rules()) -> EnsureResult:  # noqa: B008 - frozen
        return ensure(session, who, source=PAGE, now=NOW, rules=rules)

    return call


def pre_registered(session: Session, email: str, name: str = "Bob Pré") -> Mentorado:
    profile = Mentorado(nome_completo=name, email=email, turma=Turma.NEON)
    session.add(profile)
    session.flush()  # the test compares ids
    return profile


def profiles(session: Session) -> int:
    return session.scalars(select(func.count()).select_from(Mentorado)).one()


def got(result: EnsureResult) -> tuple[Outcome, int | None]:
    """What happened, and with which profile."""
    return result.outcome, result.mentorado.id if result.mentorado else None


def edit(session: Session, profile: MentoradoRow | None) -> Mentorado:
    """Note that a person has edited the profile; returns it."""
    assert profile is not None
    edited = session.get_one(Mentorado, profile.id)
    edited.edited_at = NOW
    session.flush()  # as if it were another request's
    return edited


def events(session: Session) -> list[str]:
    return list(session.scalars(select(AuditEvent.event).order_by(AuditEvent.id)))


def test_first_login_creates_the_profile(session: Session, ensured: Ensure) -> None:
    result = ensured(identity_of(BOB))

    assert result.outcome is Outcome.CREATED
    assert profiles(session) == 1


def test_automatic_profile_has_the_defaults_of_the_contract(ensured: Ensure) -> None:
    profile = ensured(identity_of(BOB)).mentorado

    assert profile is not None
    assert (
        profile.nome_completo,
        profile.email,
        profile.turma,
        profile.ativo,
        profile.onboarding_completed,
        profile.meta_faturamento,
        profile.meta_leads,
        profile.meta_procedimentos,
        profile.meta_posts,
        profile.meta_stories,
    ) == (BOB.name, BOB.email, Turma.NEON, SimNao.SIM, SimNao.NAO, 16000, 50, 10, 12, 60)


def test_second_login_finds_the_first_profile(session: Session, ensured: Ensure) -> None:
    first = ensured(identity_of(BOB))

    second = ensured(identity_of(BOB))

    assert (second.outcome, second.mentorado) == (Outcome.EXISTING, first.mentorado)
    assert profiles(session) == 1


def test_person_without_name_is_called_novo_usuario(ensured: Ensure) -> None:
    result = ensured(Identity("user_nobody"))

    assert result.mentorado is not None
    assert result.mentorado.nome_completo == "Novo Usuário"


def test_automatic_profile_gets_what_is_learned_later(ensured: Ensure) -> None:
    ensured(Identity(BOB.clerk_id))

    later = replace(identity_of(BOB), image_url="https://x.example.com/b.png")
    profile = ensured(later).mentorado

    assert profile is not None
    assert (profile.nome_completo, profile.email) == (BOB.name, BOB.email)
    assert profile.foto_url == "https://x.example.com/b.png"


def test_image_address_that_does_not_fit_is_left_out(ensured: Ensure) -> None:
    ensured(Identity(BOB.clerk_id))

    profile = ensured(Identity(BOB.clerk_id, image_url=f"https://x.example.com/{500 * 'x'}"))

    assert profile.mentorado is not None
    assert profile.mentorado.foto_url is None


def test_what_is_learned_later_replaces_nothing(session: Session, ensured: Ensure) -> None:
    ensured(identity_of(BOB))

    profile = ensured(replace(identity_of(BOB), name="Roberto", email="r@example.com")).mentorado

    assert profile is not None
    assert (profile.nome_completo, profile.email) == (BOB.name, BOB.email)


def test_profile_that_a_person_edited_keeps_its_gaps(session: Session, ensured: Ensure) -> None:
    profile = edit(session, ensured(Identity(BOB.clerk_id)).mentorado)

    ensured(identity_of(BOB))

    session.refresh(profile)
    assert profile.nome_completo == "Novo Usuário"


def test_creation_leaves_an_audit_event_in_the_same_transaction(
    session: Session, ensured: Ensure
) -> None:
    result = ensured(identity_of(BOB))

    event = session.scalars(select(AuditEvent)).one()
    assert (event.event, event.entry, event.request_id) == (
        "mentorado_created",
        "page",
        PAGE.request_id,
    )
    assert result.mentorado is not None
    assert (event.user_id, event.mentorado_id) == (result.user.id, result.mentorado.id)


def test_login_of_an_existing_person_leaves_no_audit_event(
    session: Session, alice: Mentorado, ensured: Ensure
) -> None:
    ensured(identity_of(ALICE))

    assert events(session) == []


@pytest.mark.parametrize(
    "stored",
    ["bob@example.com", "  Bob@Example.COM ", "\u00a0bob@example.com\n"],
)
def test_verified_address_links_the_pre_registered_profile(
    session: Session, ensured: Ensure, stored: str
) -> None:
    waiting = pre_registered(session, stored)

    result = ensured(identity_of(BOB))

    assert got(result) == (Outcome.LINKED, waiting.id)
    session.refresh(waiting)
    assert waiting.user_id == result.user.id


@pytest.mark.parametrize("verified", [False, None])
def test_unverified_address_links_nothing(
    session: Session, ensured: Ensure, verified: bool | None
) -> None:
    waiting = pre_registered(session, BOB.email or "")

    result = ensured(identity_of(BOB, verified=verified))

    assert (result.outcome, waiting.user_id) == (Outcome.CREATED, None)


def test_missing_address_links_nothing(session: Session, ensured: Ensure) -> None:
    waiting = pre_registered(session, "")

    result = ensured(Identity(BOB.clerk_id, BOB.name, None, email_verified=True))

    assert (result.outcome, waiting.user_id) == (Outcome.CREATED, None)


def test_owned_profile_never_changes_hands(
    session: Session, alice: Mentorado, ensured: Ensure
) -> None:
    owner = alice.user_id

    result = ensured(replace(identity_of(CHARLIE), email=ALICE.email))

    session.refresh(alice)
    assert (result.outcome, alice.user_id) == (Outcome.CREATED, owner)


def test_two_profiles_with_the_address_link_none(session: Session, ensured: Ensure) -> None:
    waiting = [
        pre_registered(session, "bob@example.com"),
        pre_registered(session, "BOB@example.com"),
    ]

    result = ensured(identity_of(BOB))

    assert (result.outcome, result.is_ambiguous) == (Outcome.CREATED, True)
    assert [profile.user_id for profile in waiting] == [None, None]


def test_ambiguity_is_recorded_for_support(session: Session, ensured: Ensure) -> None:
    pre_registered(session, "bob@example.com")
    pre_registered(session, "bob@example.com")

    ensured(identity_of(BOB))

    assert events(session) == ["mentorado_created", "mentorado_link_ambiguous"]


def test_second_person_of_a_shared_address_gets_an_own_profile(
    session: Session, ensured: Ensure
) -> None:
    waiting = pre_registered(session, "bob@example.com")
    first = ensured(identity_of(BOB))

    second = ensured(identity_of(EVE))

    assert (got(first), second.outcome) == ((Outcome.LINKED, waiting.id), Outcome.CREATED)


def test_untouched_profile_is_folded_into_a_late_pre_registration(
    session: Session, ensured: Ensure
) -> None:
    ensured(identity_of(BOB))
    waiting = pre_registered(session, "bob@example.com")

    result = ensured(identity_of(BOB))

    assert got(result) == (Outcome.CLAIMED, waiting.id)
    assert profiles(session) == 1


def test_address_verified_late_finds_its_pre_registration(
    session: Session, ensured: Ensure
) -> None:
    waiting = pre_registered(session, "bob@example.com")
    ensured(identity_of(BOB, verified=False))

    result = ensured(identity_of(BOB))

    assert got(result) == (Outcome.CLAIMED, waiting.id)


def test_profile_with_a_month_is_kept(session: Session, ensured: Ensure) -> None:
    own = ensured(identity_of(BOB)).mentorado
    assert own is not None
    session.add(MetricaMensal(mentorado_id=own.id, ano=2026, mes=1))
    pre_registered(session, "bob@example.com")

    result = ensured(identity_of(BOB))

    assert got(result) == (Outcome.EXISTING, own.id)


def test_profile_edited_by_a_person_is_kept(session: Session, ensured: Ensure) -> None:
    own = edit(session, ensured(identity_of(BOB)).mentorado)
    pre_registered(session, "bob@example.com")

    result = ensured(identity_of(BOB))

    assert got(result) == (Outcome.EXISTING, own.id)


def test_profile_that_an_unknown_table_refers_to_is_kept(session: Session, ensured: Ensure) -> None:
    own = ensured(identity_of(BOB)).mentorado
    assert own is not None
    session.execute(text('CREATE TABLE "Notas" ("Dono" int REFERENCES mentorados (id))'))
    session.execute(text('INSERT INTO "Notas" VALUES (:id)'), {"id": own.id})
    pre_registered(session, "bob@example.com")

    assert ensured(identity_of(BOB)).outcome is Outcome.EXISTING


def test_admin_without_profile_is_not_provisioned(session: Session, ensured: Ensure) -> None:
    result = ensured(identity_of(BOB), Rules(admin_emails=frozenset({"bob@example.com"})))

    assert (result.outcome, result.user.role) == (Outcome.ADMIN, Role.ADMIN)
    assert profiles(session) == 0


def test_blocked_person_is_denied_and_gets_nothing(session: Session, ensured: Ensure) -> None:
    session.add(User(clerk_id=BOB.clerk_id, blocked_at=NOW))

    result = ensured(identity_of(BOB))

    assert (result.denial, profiles(session)) == (Denial.USER_BLOCKED, 0)


def test_inactive_mentorado_is_denied_but_kept(alice: Mentorado, ensured: Ensure) -> None:
    alice.ativo = SimNao.NAO

    result = ensured(identity_of(ALICE))

    assert (result.denial, got(result)[1]) == (Denial.MENTORADO_INACTIVE, alice.id)


def test_stored_switch_stops_creation_and_leaves_the_person_known(
    session: Session, ensured: Ensure
) -> None:
    session.add(AppSetting(key="auto_create", value=False))

    result = ensured(identity_of(BOB))

    assert (result.denial, profiles(session)) == (Denial.AUTO_CREATE_DISABLED, 0)
    assert session.scalars(select(User.clerk_id)).all() == [BOB.clerk_id]


def test_switching_on_again_heals(session: Session, ensured: Ensure) -> None:
    switch = AppSetting(key="auto_create", value=False)
    session.add(switch)
    ensured(identity_of(BOB))
    switch.value = True

    assert ensured(identity_of(BOB)).outcome is Outcome.CREATED


def test_profile_made_by_another_program_meanwhile_is_the_profile(
    session: Session, ensured: Ensure, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = User(clerk_id=BOB.clerk_id)
    session.add(user)
    session.flush()  # its profile needs the id
    values = {"user_id": user.id, "nome_completo": "Outro", "turma": Turma.NEON}
    session.add(Mentorado(**values))
    not_yet = replace(
        upsert_and_load_user(session, identity_of(BOB), signs_in=True, now=NOW), profile=None
    )
    monkeypatch.setattr("provisioning.ensure.upsert_and_load_user", lambda *_, **__: not_yet)

    result = ensured(identity_of(BOB))

    assert result.mentorado is not None
    assert (result.outcome, result.mentorado.nome_completo) == (Outcome.EXISTING, "Outro")


def test_forecast_says_what_ensure_would_do_and_writes_nothing(session: Session) -> None:
    session.add(User(clerk_id=BOB.clerk_id, email=BOB.email, email_verified=True))
    waiting = pre_registered(session, "bob@example.com")

    foreseen = forecast_decision(session, BOB.clerk_id, Rules())

    assert (foreseen.decision.action, foreseen.decision.mentorado_id) == (Action.LINK, waiting.id)
    assert (foreseen.standing.has_profile, waiting.user_id) == (False, None)


def test_forecast_goes_by_proven_addresses_only(session: Session) -> None:
    session.add(User(clerk_id=BOB.clerk_id, email=BOB.email))
    pre_registered(session, "bob@example.com")

    assert forecast_decision(session, BOB.clerk_id, Rules()).decision.action is Action.CREATE


def test_forecast_finds_nothing_ambiguous_about_an_edited_profile(
    session: Session, ensured: Ensure
) -> None:
    edit(session, ensured(identity_of(BOB)).mentorado)
    for _ in range(2):
        pre_registered(session, "bob@example.com")

    assert not forecast_decision(session, BOB.clerk_id, Rules()).standing.is_ambiguous


def test_profile_edited_while_we_waited_for_its_lock_is_kept(
    session: Session, ensured: Ensure, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ensured(identity_of(BOB)).mentorado
    pre_registered(session, "bob@example.com")

    def edit_meanwhile(_: Session, met: LoadedUser) -> LoadedUser:
        edit(session, met.profile)
        return lock_profile(session, met)

    monkeypatch.setattr("provisioning.ensure.lock_profile", edit_meanwhile)

    assert got(ensured(identity_of(BOB))) == (Outcome.EXISTING, own.id if own else None)


def test_profile_gone_while_we_waited_for_its_lock_is_decided_on_anew(
    session: Session, ensured: Ensure, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ensured(identity_of(BOB)).mentorado
    assert own is not None
    pre_registered(session, "bob@example.com")
    seen = upsert_and_load_user(session, identity_of(BOB), signs_in=True, now=NOW)
    gone = replace(seen, profile=replace(own, id=-1))
    monkeypatch.setattr("provisioning.ensure.upsert_and_load_user", lambda *_, **__: gone)

    with pytest.raises(StaleDecisionError):
        ensured(identity_of(BOB))


def test_profile_taken_by_another_program_meanwhile_is_decided_on_anew(
    alice: Mentorado, ensured: Ensure, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = DecisionFacts(matches=(alice.id,))
    monkeypatch.setattr("provisioning.ensure.decision_facts", lambda *_: stale)

    with pytest.raises(StaleDecisionError):
        ensured(identity_of(BOB))


def test_link_that_the_table_refuses_is_no_matter_of_timing(
    session: Session, ensured: Ensure
) -> None:
    pre_registered(session, "bob@example.com")
    nobody = "ALTER TABLE mentorados ADD CONSTRAINT nobody CHECK (user_id IS NULL)"
    session.execute(text(nobody))

    with pytest.raises(IntegrityError, match="nobody"):
        ensured(identity_of(BOB))


def test_profile_given_meanwhile_is_decided_on_anew(
    session: Session, ensured: Ensure, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensured(identity_of(BOB))
    pre_registered(session, "bob@example.com")
    not_yet = replace(
        upsert_and_load_user(session, identity_of(BOB), signs_in=True, now=NOW), profile=None
    )
    monkeypatch.setattr("provisioning.ensure.upsert_and_load_user", lambda *_, **__: not_yet)

    with pytest.raises(StaleDecisionError):
        ensured(identity_of(BOB))
