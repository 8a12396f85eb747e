"""`ensure`, rule by rule, on PostgreSQL."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import ColumnElement, event, func, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from auth.identity import Identity
from dev.fake_clerk import DevUser
from models import AppSetting, AuditEvent, Mentorado, MetricaMensal, User
from models.people import Role, SimNao, Turma
from provisioning.ensure import EnsureResult, Outcome, ensure, preview_decision
from provisioning.errors import Denial, StaleDecisionError
from provisioning.identity_lookups import record_user
from provisioning.profiles import MentoradoRow
from provisioning.rules import Action, Rules
from tests.support.users import ALICE, BOB, CHARLIE, NOW, PAGE, identity_of

Ensure = Callable[..., EnsureResult]
BeforeStatement = Callable[[str, str], None]
EVE = DevUser("user_eve", "Eve", "bob@example.com")  # has Bob's address
INSERT_OTHER_PROFILE = f"""
INSERT INTO mentorados (user_id, nome_completo, turma)
SELECT id, 'Outro', 'neon' FROM users WHERE clerk_id = '{BOB.clerk_id}'
"""
LINK_TO_CHARLIE = f"""
UPDATE mentorados SET user_id = users.id FROM users WHERE clerk_id = '{CHARLIE.clerk_id}'
"""


@pytest.fixture
def ensured(session: Session) -> Ensure:
    def call(identity: Identity, rules: Rules = Rules()) -> EnsureResult:  # noqa: B008 - frozen
        return ensure(session, identity, source=PAGE, now=NOW, rules=rules)

    return call


@pytest.fixture
def before_statement(connection: Connection) -> Iterator[BeforeStatement]:
    """Executes a change once before the next statement with a text, like a concurrent program."""
    changes: list[tuple[str, str]] = []

    def execute_change(_c: object, _k: object, statement: str, *_: object) -> None:
        if changes and changes[0][0] in statement:
            connection.exec_driver_sql(changes.pop()[1])

    event.listen(connection, "before_cursor_execute", execute_change)
    yield lambda text, change: changes.append((text, change))
    event.remove(connection, "before_cursor_execute", execute_change)


def pre_registered(session: Session, email: str, name: str = "Bob Pré") -> Mentorado:
    profile = Mentorado(nome_completo=name, email=email, turma=Turma.NEON)
    session.add(profile)
    session.flush()
    return profile


def count_profiles(session: Session) -> int:
    return session.scalars(select(func.count()).select_from(Mentorado)).one()


def summarize(result: EnsureResult) -> tuple[Outcome, int | None]:
    """Return the outcome and the id of the profile."""
    return result.outcome, result.mentorado.id if result.mentorado else None


def mark_edited(session: Session, profile: MentoradoRow | None) -> Mentorado:
    """Mark the profile as edited by a user and return it."""
    assert profile is not None
    edited = session.get_one(Mentorado, profile.id)
    edited.edited_at = NOW
    session.flush()
    return edited


def events(session: Session) -> list[str]:
    return list(session.scalars(select(AuditEvent.event).order_by(AuditEvent.id)))


def test_first_login_creates_the_profile(session: Session, ensured: Ensure) -> None:
    result = ensured(identity_of(BOB))

    assert result.outcome is Outcome.CREATED
    assert count_profiles(session) == 1


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


def test_second_login_returns_existing_profile(session: Session, ensured: Ensure) -> None:
    first = ensured(identity_of(BOB))

    second = ensured(identity_of(BOB))

    assert (second.outcome, second.mentorado) == (Outcome.EXISTING, first.mentorado)
    assert count_profiles(session) == 1


def test_profile_of_a_user_without_name_is_called_novo_usuario(ensured: Ensure) -> None:
    result = ensured(Identity("user_nameless"))

    assert result.mentorado is not None
    assert result.mentorado.nome_completo == "Novo Usuário"


def test_automatic_profile_is_filled_from_a_later_identity(ensured: Ensure) -> None:
    ensured(Identity(BOB.clerk_id))

    later = replace(identity_of(BOB), image_url="https://x.example.com/b.png")
    profile = ensured(later).mentorado

    assert profile is not None
    assert (profile.nome_completo, profile.email) == (BOB.name, BOB.email)
    assert profile.foto_url == "https://x.example.com/b.png"


def test_image_url_that_is_too_long_is_dropped(ensured: Ensure) -> None:
    ensured(Identity(BOB.clerk_id))

    profile = ensured(Identity(BOB.clerk_id, image_url=f"https://x.example.com/{500 * 'x'}"))

    assert profile.mentorado is not None
    assert profile.mentorado.foto_url is None


def test_later_identity_replaces_no_value_of_the_profile(session: Session, ensured: Ensure) -> None:
    ensured(identity_of(BOB))

    profile = ensured(replace(identity_of(BOB), name="Roberto", email="r@example.com")).mentorado

    assert profile is not None
    assert (profile.nome_completo, profile.email) == (BOB.name, BOB.email)


def test_edited_profile_is_not_filled_from_a_later_identity(
    session: Session, ensured: Ensure
) -> None:
    profile = mark_edited(session, ensured(Identity(BOB.clerk_id)).mentorado)

    ensured(identity_of(BOB))

    session.refresh(profile)
    assert profile.nome_completo == "Novo Usuário"


def test_creation_writes_an_audit_event_in_the_same_transaction(
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


def test_login_of_an_existing_user_writes_no_audit_event(
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
    unlinked = pre_registered(session, stored)

    result = ensured(identity_of(BOB))

    assert summarize(result) == (Outcome.LINKED, unlinked.id)
    session.refresh(unlinked)
    assert unlinked.user_id == result.user.id


@pytest.mark.parametrize("verified", [False, None])
def test_unverified_address_links_nothing(
    session: Session, ensured: Ensure, verified: bool | None
) -> None:
    unlinked = pre_registered(session, BOB.email or "")

    result = ensured(identity_of(BOB, verified=verified))

    assert (result.outcome, unlinked.user_id) == (Outcome.CREATED, None)


def test_missing_address_links_nothing(session: Session, ensured: Ensure) -> None:
    unlinked = pre_registered(session, "")

    result = ensured(Identity(BOB.clerk_id, BOB.name, None, email_verified=True))

    assert (result.outcome, unlinked.user_id) == (Outcome.CREATED, None)


def test_owned_profile_is_never_linked_to_another_user(
    session: Session, alice: Mentorado, ensured: Ensure
) -> None:
    owner = alice.user_id

    result = ensured(replace(identity_of(CHARLIE), email=ALICE.email))

    session.refresh(alice)
    assert (result.outcome, alice.user_id) == (Outcome.CREATED, owner)


def test_two_profiles_with_the_address_link_none(session: Session, ensured: Ensure) -> None:
    unlinked = [
        pre_registered(session, "bob@example.com"),
        pre_registered(session, "BOB@example.com"),
    ]

    result = ensured(identity_of(BOB))

    assert (result.outcome, result.is_ambiguous) == (Outcome.CREATED, True)
    assert [profile.user_id for profile in unlinked] == [None, None]


def test_ambiguity_is_recorded_for_support(session: Session, ensured: Ensure) -> None:
    pre_registered(session, "bob@example.com")
    pre_registered(session, "bob@example.com")

    ensured(identity_of(BOB))

    assert events(session) == ["mentorado_created", "mentorado_link_ambiguous"]


def test_second_user_of_a_shared_address_gets_a_new_profile(
    session: Session, ensured: Ensure
) -> None:
    unlinked = pre_registered(session, "bob@example.com")
    first = ensured(identity_of(BOB))

    second = ensured(identity_of(EVE))

    assert (summarize(first), second.outcome) == ((Outcome.LINKED, unlinked.id), Outcome.CREATED)


def test_untouched_profile_is_replaced_by_a_later_pre_registration(
    session: Session, ensured: Ensure
) -> None:
    ensured(identity_of(BOB))
    unlinked = pre_registered(session, "bob@example.com")

    result = ensured(identity_of(BOB))

    assert summarize(result) == (Outcome.CLAIMED, unlinked.id)
    assert count_profiles(session) == 1


def test_address_verified_later_claims_its_pre_registration(
    session: Session, ensured: Ensure
) -> None:
    unlinked = pre_registered(session, "bob@example.com")
    ensured(identity_of(BOB, verified=False))

    result = ensured(identity_of(BOB))

    assert summarize(result) == (Outcome.CLAIMED, unlinked.id)


def test_profile_with_a_month_is_kept(session: Session, ensured: Ensure) -> None:
    own = ensured(identity_of(BOB)).mentorado
    assert own is not None
    session.add(MetricaMensal(mentorado_id=own.id, ano=2026, mes=1))
    pre_registered(session, "bob@example.com")

    result = ensured(identity_of(BOB))

    assert summarize(result) == (Outcome.EXISTING, own.id)


def test_edited_profile_is_kept(session: Session, ensured: Ensure) -> None:
    own = mark_edited(session, ensured(identity_of(BOB)).mentorado)
    pre_registered(session, "bob@example.com")

    result = ensured(identity_of(BOB))

    assert summarize(result) == (Outcome.EXISTING, own.id)


def test_profile_that_an_unknown_table_references_is_kept(
    session: Session, ensured: Ensure
) -> None:
    own = ensured(identity_of(BOB)).mentorado
    assert own is not None
    session.execute(text('CREATE TABLE "Notas" ("Dono" int REFERENCES mentorados (id))'))
    session.execute(text('INSERT INTO "Notas" VALUES (:id)'), {"id": own.id})
    pre_registered(session, "bob@example.com")

    assert ensured(identity_of(BOB)).outcome is Outcome.EXISTING


def test_admin_without_profile_is_not_provisioned(session: Session, ensured: Ensure) -> None:
    result = ensured(identity_of(BOB), Rules(admin_emails=frozenset({"bob@example.com"})))

    assert (result.outcome, result.user.role) == (Outcome.ADMIN, Role.ADMIN)
    assert count_profiles(session) == 0


def test_blocked_user_is_denied_and_gets_no_profile(session: Session, ensured: Ensure) -> None:
    session.add(User(clerk_id=BOB.clerk_id, blocked_at=NOW))

    result = ensured(identity_of(BOB))

    assert (result.denial, count_profiles(session)) == (Denial.USER_BLOCKED, 0)


def test_inactive_mentorado_is_denied_but_kept(alice: Mentorado, ensured: Ensure) -> None:
    alice.ativo = SimNao.NAO

    result = ensured(identity_of(ALICE))

    assert (result.denial, summarize(result)[1]) == (Denial.MENTORADO_INACTIVE, alice.id)


def test_disabled_auto_create_denies_but_stores_the_user(session: Session, ensured: Ensure) -> None:
    session.add(AppSetting(key="auto_create", value=False))

    result = ensured(identity_of(BOB))

    assert (result.denial, count_profiles(session)) == (Denial.AUTO_CREATE_DISABLED, 0)
    assert session.scalars(select(User.clerk_id)).all() == [BOB.clerk_id]


def test_enabling_auto_create_again_creates_the_profile(session: Session, ensured: Ensure) -> None:
    switch = AppSetting(key="auto_create", value=False)
    session.add(switch)
    ensured(identity_of(BOB))
    switch.value = True

    assert ensured(identity_of(BOB)).outcome is Outcome.CREATED


def test_profile_inserted_concurrently_is_returned(
    session: Session, ensured: Ensure, before_statement: BeforeStatement
) -> None:
    record_user(session, identity_of(BOB), NOW - timedelta(days=1))
    before_statement("INSERT INTO mentorados", INSERT_OTHER_PROFILE)

    result = ensured(identity_of(BOB))

    assert result.mentorado is not None
    assert (result.outcome, result.mentorado.nome_completo) == (Outcome.EXISTING, "Outro")


@pytest.mark.parametrize("name", [None, "", "Ana", "Ânĝela 🦷", "x" * 300])
@pytest.mark.parametrize("image_url", [None, "https://img.example/a.png", f"https://{'x' * 600}"])
def test_new_user_gets_the_same_profile_as_a_stored_user(
    session: Session, ensured: Ensure, name: str | None, image_url: str | None
) -> None:
    """The first is created by the SQL function that stores the user, the other by `ensure`."""
    new = Identity("user_new", name, "new@example.com", True, image_url)
    stored = replace(new, clerk_id="user_stored")
    record_user(session, stored, NOW - timedelta(days=1))

    results = [ensured(identity) for identity in (new, stored)]

    assert [result.outcome for result in results] == [Outcome.CREATED, Outcome.CREATED]
    profiles = [values_of(session, Mentorado, Mentorado.user_id == r.user.id) for r in results]
    events = [values_of(session, AuditEvent, AuditEvent.user_id == r.user.id) for r in results]
    assert (profiles[0], events[0]) == (profiles[1], events[1])


def values_of(
    session: Session, model: type[Mentorado | AuditEvent], condition: ColumnElement[bool]
) -> dict[str, object]:
    """Return the only row with this condition, without the ids."""
    ids = ("id", "user_id", "mentorado_id")
    columns = [column for column in model.__table__.columns if column.name not in ids]
    return dict(session.execute(select(*columns).where(condition)).one()._mapping)


def test_preview_returns_the_decision_of_ensure_and_writes_nothing(session: Session) -> None:
    session.add(User(clerk_id=BOB.clerk_id, email=BOB.email, email_verified=True))
    unlinked = pre_registered(session, "bob@example.com")

    preview = preview_decision(session, BOB.clerk_id, Rules())

    assert (preview.decision.action, preview.decision.mentorado_id) == (Action.LINK, unlinked.id)
    assert (preview.facts.has_profile, unlinked.user_id) == (False, None)


def test_preview_uses_verified_addresses_only(session: Session) -> None:
    session.add(User(clerk_id=BOB.clerk_id, email=BOB.email))
    pre_registered(session, "bob@example.com")

    assert preview_decision(session, BOB.clerk_id, Rules()).decision.action is Action.CREATE


def test_preview_for_an_edited_profile_is_not_ambiguous(session: Session, ensured: Ensure) -> None:
    mark_edited(session, ensured(identity_of(BOB)).mentorado)
    for _ in range(2):
        pre_registered(session, "bob@example.com")

    assert not preview_decision(session, BOB.clerk_id, Rules()).facts.is_ambiguous


def test_profile_edited_while_waiting_for_its_lock_is_kept(
    session: Session, ensured: Ensure, before_statement: BeforeStatement
) -> None:
    own = ensured(identity_of(BOB)).mentorado
    pre_registered(session, "bob@example.com")
    before_statement("FOR UPDATE", "UPDATE mentorados SET edited_at = now()")

    assert summarize(ensured(identity_of(BOB))) == (Outcome.EXISTING, own.id if own else None)


def test_profile_deleted_while_waiting_for_its_lock_raises_stale_decision(
    session: Session, ensured: Ensure, before_statement: BeforeStatement
) -> None:
    ensured(identity_of(BOB))
    pre_registered(session, "bob@example.com")
    before_statement("FOR UPDATE", "DELETE FROM mentorados WHERE user_id IS NOT NULL")

    with pytest.raises(StaleDecisionError):
        ensured(identity_of(BOB))


def test_profile_linked_concurrently_raises_stale_decision(
    session: Session, ensured: Ensure, before_statement: BeforeStatement
) -> None:
    session.add(User(clerk_id=CHARLIE.clerk_id))
    pre_registered(session, "bob@example.com")
    before_statement("UPDATE mentorados", LINK_TO_CHARLIE)

    with pytest.raises(StaleDecisionError):
        ensured(identity_of(BOB))


def test_link_that_violates_a_constraint_raises_integrity_error(
    session: Session, ensured: Ensure
) -> None:
    pre_registered(session, "bob@example.com")
    constraint = "ALTER TABLE mentorados ADD CONSTRAINT no_owner CHECK (user_id IS NULL)"
    session.execute(text(constraint))

    with pytest.raises(IntegrityError, match="no_owner"):
        ensured(identity_of(BOB))


def test_profile_assigned_concurrently_raises_stale_decision(
    session: Session, ensured: Ensure, before_statement: BeforeStatement
) -> None:
    pre_registered(session, "bob@example.com")
    before_statement("UPDATE mentorados", INSERT_OTHER_PROFILE)

    with pytest.raises(StaleDecisionError):
        ensured(identity_of(BOB))
