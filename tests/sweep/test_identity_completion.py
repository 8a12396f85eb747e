"""Last step of the sweep: incomplete and old identities are refreshed from Clerk."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, event, select, text, update
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.expression import ClauseElement, Executable

from auth.clerk_calls import UserDirectory
from auth.clerk_client import Document
from auth.errors import (
    ProviderUnavailableError,
    RateLimitedError,
    SecretKeyRefusedError,
    UnusableAnswerError,
)
from auth.identity import Identity
from auth.provider_calls import ProviderCalls, Rate
from dev.fake_clerk import DevUser, clerk_user
from models import Mentorado, ProvisioningAttempt, User
from models.people import Turma
from provisioning.ensure import EnsureResult
from provisioning.errors import (
    DatabaseUnavailableError,
    IdentityUnavailableError,
    ProvisioningUnavailableError,
)
from provisioning.identity_lookups import LookupPosition, known_identity, users_to_refresh
from sweep.sweeper import Sweeper
from tests.support.concurrency import Clock
from tests.support.sweeps import with_service
from tests.support.users import NOW, PAGE, failed_attempt
from web.services import Services

LATE = DevUser("user_late", "Lia Prado", "lia@example.com")


@pytest.fixture
def sweeper(services: Services, session: Session) -> Sweeper:
    """A sweeper; Clerk has all data of Lia, the database only her id."""
    assert services.dev_provider is not None
    services.dev_provider.save_user(LATE)
    session.add(User(clerk_id=LATE.clerk_id))
    session.commit()
    # Not the call budget of the app, which other tests share.
    directory = UserDirectory(services.dev_provider, ProviderCalls(Rate(999, 999)))
    return Sweeper(replace(services.provisioning, directory=directory))


def add_pre_registered(session: Session) -> Mentorado:
    profile = Mentorado(nome_completo="Lia Pré", email=LATE.email, turma=Turma.NEON)
    session.add(profile)
    session.commit()
    return profile


class FailingRefresh:
    """A refresh from Clerk that raises an error and counts its calls."""

    def __init__(self, error: Exception) -> None:
        self.error, self.calls = error, 0

    def __call__(self, clerk_id: str) -> EnsureResult:
        self.calls += 1
        raise self.error


def is_complete(session: Session, clerk_id: str) -> bool:
    known = known_identity(session, clerk_id)
    return known is not None and known.identity_completed_at is not None


def test_refreshed_address_is_linked_to_its_profile(session: Session, sweeper: Sweeper) -> None:
    unlinked = add_pre_registered(session)

    counts = sweeper.start("cli")

    session.expire_all()
    assert unlinked.user_id is not None
    assert (counts.created, counts.linked) == (1, 1)
    assert is_complete(session, LATE.clerk_id)


def test_refreshed_name_is_written_to_the_profile(session: Session, sweeper: Sweeper) -> None:
    sweeper.start("cli")

    assert session.scalars(select(Mentorado.nome_completo)).one() == LATE.name


def test_refresh_without_effect_is_not_counted(session: Session, sweeper: Sweeper) -> None:
    assert sweeper.start("cli").scanned == 1


def test_user_unknown_to_clerk_is_marked_complete(session: Session, sweeper: Sweeper) -> None:
    session.add(User(clerk_id="user_of_another_instance"))
    session.commit()

    sweeper.start("cli")

    assert is_complete(session, "user_of_another_instance")


def test_refresh_stops_after_two_failed_calls_and_the_run_succeeds(
    session: Session, sweeper: Sweeper
) -> None:
    session.add_all(User(clerk_id=f"user_{number}") for number in range(3))
    session.commit()
    unavailable = FailingRefresh(IdentityUnavailableError("unavailable"))

    counts = with_service(sweeper, complete_from_clerk=unavailable).start("cli")

    assert (counts.created, unavailable.calls) == (4, 2)


def test_user_whose_refresh_fails_blocks_no_other_user(session: Session, sweeper: Sweeper) -> None:
    session.add(User(clerk_id="user_other"))
    session.commit()
    failing = FailingRefresh(ProvisioningUnavailableError("lock timeout"))

    with_service(sweeper, complete_from_clerk=failing).start("cli")

    assert failing.calls == 2


def test_unavailable_database_ends_the_run(sweeper: Sweeper) -> None:
    with pytest.raises(DatabaseUnavailableError):
        with_service(
            sweeper, complete_from_clerk=FailingRefresh(DatabaseUnavailableError("gone"))
        ).start("cli")


def test_dry_run_refreshes_no_identity(sweeper: Sweeper) -> None:
    refresh = FailingRefresh(AssertionError())

    with_service(sweeper, complete_from_clerk=refresh).start("cli", dry_run=True)

    assert refresh.calls == 0


def test_user_with_a_dead_letter_is_not_refreshed(session: Session, sweeper: Sweeper) -> None:
    session.add(failed_attempt(LATE.clerk_id))
    session.commit()
    refresh = FailingRefresh(AssertionError())

    with_service(sweeper, complete_from_clerk=refresh).start("cli")

    assert refresh.calls == 0


class FakeClerk:
    """A Clerk client that returns valid users, except where an answer is set."""

    def __init__(self) -> None:
        self.answers: dict[str, Document | Exception] = {}
        self.requested: list[str] = []

    def user(self, clerk_id: str) -> Document:
        self.requested.append(clerk_id)
        answer = self.answers.get(clerk_id, clerk_user(DevUser(clerk_id, f"Nome {clerk_id}")))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def users(self, offset: int, limit: int) -> list[object]:
        return []


@pytest.fixture
def clerk() -> FakeClerk:
    return FakeClerk()


@pytest.fixture
def clerk_sweeper(services: Services, session: Session, clerk: FakeClerk) -> Sweeper:
    """A sweeper that uses that Clerk client."""
    directory = UserDirectory(clerk, ProviderCalls(Rate(999, 999)))
    return Sweeper(replace(services.provisioning, directory=directory))


def add_incomplete(session: Session, *clerk_ids: str) -> None:
    """Add users with an id only, the last one the newest."""
    for clerk_id in clerk_ids:
        session.add(User(clerk_id=clerk_id))
        session.commit()


def completed_users(session: Session) -> list[str]:
    completed = select(User.clerk_id).where(User.identity_completed_at.is_not(None))
    return list(session.scalars(completed.order_by(User.id)))


def recorded_attempts(session: Session) -> list[tuple[str, int, str | None]]:
    rows = select(
        ProvisioningAttempt.clerk_id, ProvisioningAttempt.attempts, ProvisioningAttempt.error_code
    )
    return [(row[0], row[1], row[2]) for row in session.execute(rows)]


UNUSABLE_ANSWERS: dict[str, Document | Exception] = {
    **{code: UnusableAnswerError(code) for code in ("400", "410", "422", "not_json")},
    "another_user": clerk_user(DevUser("user_else")),
    "not_a_user": {"id": None},
}


@pytest.mark.parametrize(("code", "answer"), UNUSABLE_ANSWERS.items(), ids=UNUSABLE_ANSWERS)
def test_unusable_answer_about_one_user_blocks_no_other_user(
    session: Session,
    clerk_sweeper: Sweeper,
    clerk: FakeClerk,
    code: str,
    answer: Document | Exception,
) -> None:
    add_incomplete(session, "user_1", "user_2", "user_unusable")
    clerk.answers["user_unusable"] = answer

    clerk_sweeper.start("clock")

    assert completed_users(session) == ["user_1", "user_2"]
    assert recorded_attempts(session) == [("user_unusable", 1, code)]


def test_user_with_an_unusable_answer_still_gets_a_profile(
    session: Session, clerk_sweeper: Sweeper, clerk: FakeClerk
) -> None:
    add_incomplete(session, "user_unusable")
    clerk.answers["user_unusable"] = UnusableAnswerError("422")

    clerk_sweeper.start("clock")
    session.execute(delete(Mentorado))
    session.commit()

    assert clerk_sweeper.start("clock").created == 1


@pytest.mark.parametrize("answer", [UnusableAnswerError("422"), {"id": None}], ids=str)
def test_login_with_an_unusable_answer_uses_the_token(
    services: Services, session: Session, clerk: FakeClerk, answer: Document | Exception
) -> None:
    clerk.answers["user_unusable"] = answer
    directory = UserDirectory(clerk, ProviderCalls(Rate(9, 9)))
    service = replace(services.provisioning, directory=directory)

    context = service.context_for(Identity("user_unusable", "Eva"), source=PAGE, now=NOW)

    assert (context.status, context.outcome, recorded_attempts(session)) == ("ready", "created", [])


def test_unusable_answer_is_requested_again_after_the_pause(
    session: Session, clerk_sweeper: Sweeper, clerk: FakeClerk
) -> None:
    add_incomplete(session, "user_unusable")
    clerk.answers["user_unusable"] = UnusableAnswerError("422")
    clerk_sweeper.start("clock")
    clerk_sweeper.start("clock")
    before = len(clerk.requested)
    session.execute(update(ProvisioningAttempt).values(next_attempt_at=NOW))
    session.commit()

    clerk_sweeper.start("clock")

    assert (before, len(clerk.requested)) == (1, 2)
    assert recorded_attempts(session) == [("user_unusable", 2, "422")]


def test_valid_answer_deletes_the_attempt(
    session: Session, clerk_sweeper: Sweeper, clerk: FakeClerk
) -> None:
    add_incomplete(session, "user_unusable")
    clerk.answers["user_unusable"] = UnusableAnswerError("422")
    clerk_sweeper.start("clock")
    clerk.answers.clear()

    clerk_sweeper.start("cli")
    clerk_sweeper.start("clock")

    assert (completed_users(session), recorded_attempts(session)) == (["user_unusable"], [])


@pytest.mark.parametrize("clerk_id", ["", " ", "null", "../users", "a/b", "u%2f"])
def test_malformed_clerk_id_is_marked_complete_without_a_request(
    session: Session, clerk_sweeper: Sweeper, clerk: FakeClerk, clerk_id: str
) -> None:
    add_incomplete(session, "user_1", clerk_id)

    clerk_sweeper.start("clock")

    assert (completed_users(session), clerk.requested) == (["user_1", clerk_id], ["user_1"])


def test_server_error_about_one_user_blocks_no_other_and_records_no_attempt(
    session: Session, clerk_sweeper: Sweeper, clerk: FakeClerk
) -> None:
    add_incomplete(session, "user_1", "user_2", "user_broken")
    clerk.answers["user_broken"] = ProviderUnavailableError("status 500")

    clerk_sweeper.start("clock")

    assert (completed_users(session), recorded_attempts(session)) == (["user_1", "user_2"], [])


def test_each_run_continues_where_the_last_one_stopped(
    session: Session, clerk_sweeper: Sweeper, clerk: FakeClerk
) -> None:
    add_incomplete(session, "user_1", "user_2", "broken_1", "broken_2", "broken_3")
    for clerk_id in ("broken_1", "broken_2", "broken_3"):
        clerk.answers[clerk_id] = ProviderUnavailableError("status 500")

    clerk_sweeper.start("clock")
    stopped_after = list(clerk.requested)
    clerk_sweeper.start("clock")

    assert stopped_after == ["broken_3", "broken_2"]
    assert (completed_users(session), recorded_attempts(session)) == (["user_1", "user_2"], [])


@pytest.mark.parametrize(
    "error", [ProviderUnavailableError("status 500"), SecretKeyRefusedError(401)], ids=str
)
def test_outage_of_clerk_records_no_attempts(
    session: Session, clerk_sweeper: Sweeper, clerk: FakeClerk, error: Exception
) -> None:
    add_incomplete(session, *(f"user_{index}" for index in range(5)))
    clerk.answers = {f"user_{index}": error for index in range(5)}

    for _ in range(3):
        clerk_sweeper.start("clock")

    assert (completed_users(session), recorded_attempts(session), len(clerk.requested)) == (
        [],
        [],
        6,
    )


def test_rate_limited_refresh_stops_until_a_later_run(
    session: Session, clerk_sweeper: Sweeper, clerk: FakeClerk
) -> None:
    add_incomplete(session, "user_1", "user_2")
    clerk.answers["user_2"] = RateLimitedError(60)

    clerk_sweeper.start("clock")
    clerk_sweeper.start("clock")

    assert (clerk.requested, recorded_attempts(session)) == (["user_2"], [])


def test_refresh_continues_in_the_next_run_when_the_call_budget_is_spent(
    services: Services, session: Session, clerk: FakeClerk
) -> None:
    add_incomplete(session, *(f"user_{index}" for index in range(6)))
    clock = Clock()
    directory = UserDirectory(clerk, ProviderCalls(Rate(burst=4, per_second=2.5), clock))
    sweeper = Sweeper(replace(services.provisioning, directory=directory))

    sweeper.start("clock")
    first = list(clerk.requested)
    clock.seconds += 4
    sweeper.start("clock")

    assert first == ["user_5", "user_4", "user_3", "user_2"]
    assert (len(completed_users(session)), recorded_attempts(session)) == (6, [])


def test_sweep_without_a_directory_refreshes_no_identity(
    services: Services, session: Session
) -> None:
    add_incomplete(session, "user_1")

    counts = Sweeper(replace(services.provisioning, directory=None)).start("clock")

    assert (counts.created, completed_users(session)) == (1, [])


DAYS = timedelta(days=1)


def add_complete(
    session: Session,
    clerk_id: str,
    *,
    completed: int,
    asked: int | None = None,
    seen: int = 1,
    **facts: Any,
) -> None:
    """Add a user whose identity was completed, requested and last used so many days ago."""
    now = datetime.now(UTC)
    session.add(
        User(
            clerk_id=clerk_id,
            identity_completed_at=now - completed * DAYS,
            identity_asked_at=None if asked is None else now - asked * DAYS,
            last_signed_in=now - seen * DAYS,
            **facts,
        )
    )
    session.commit()


def test_old_identities_are_refreshed_oldest_first(
    session: Session, clerk_sweeper: Sweeper, clerk: FakeClerk
) -> None:
    add_complete(session, "requested_since", completed=9, asked=3)
    add_complete(session, "two_days", completed=2)
    add_complete(session, "four_days", completed=4)
    add_complete(session, "today", completed=0)
    add_complete(session, "requested_today", completed=9, asked=0)

    clerk_sweeper.start("clock")

    assert clerk.requested == ["four_days", "requested_since", "two_days"]


def test_incomplete_users_are_refreshed_before_old_identities(
    session: Session, clerk_sweeper: Sweeper, clerk: FakeClerk
) -> None:
    add_complete(session, "old", completed=9)
    add_incomplete(session, "incomplete")

    clerk_sweeper.start("clock")

    assert clerk.requested == ["incomplete", "old"]


@pytest.mark.parametrize("facts", [{"seen": 31}, {"blocked_at": NOW}, {"deleted_at": NOW}], ids=str)
def test_inactive_or_denied_users_are_not_refreshed(
    session: Session, clerk_sweeper: Sweeper, clerk: FakeClerk, facts: dict[str, Any]
) -> None:
    add_complete(session, "user_1", completed=9, **facts)

    clerk_sweeper.start("clock")

    assert clerk.requested == []


def test_refreshed_identity_is_stored_and_not_requested_again(
    session: Session, clerk_sweeper: Sweeper, clerk: FakeClerk
) -> None:
    add_complete(session, "user_1", completed=9)

    clerk_sweeper.start("clock")
    clerk_sweeper.start("clock")

    name = session.scalars(select(User.name).execution_options(populate_existing=True)).one()
    assert (clerk.requested, name) == (["user_1"], "Nome user_1")


@pytest.mark.parametrize("answer", UNUSABLE_ANSWERS.values(), ids=UNUSABLE_ANSWERS)
def test_unusable_answer_about_a_complete_user_records_no_attempt(
    session: Session, clerk_sweeper: Sweeper, clerk: FakeClerk, answer: Document | Exception
) -> None:
    add_complete(session, "user_unusable", completed=9)
    clerk.answers["user_unusable"] = answer

    clerk_sweeper.start("clock")
    clerk_sweeper.start("clock")

    assert (clerk.requested, recorded_attempts(session)) == (["user_unusable"], [])


def test_two_failed_calls_end_the_refresh_of_a_run(
    session: Session, clerk_sweeper: Sweeper, clerk: FakeClerk
) -> None:
    for number in range(5):
        add_complete(session, f"user_{number}", completed=9 - number)
        clerk.answers[f"user_{number}"] = ProviderUnavailableError("status 500")

    clerk_sweeper.start("clock")
    clerk_sweeper.start("clock")

    assert clerk.requested == ["user_0", "user_1", "user_2", "user_3"]


def test_call_budget_limits_the_refresh(
    services: Services, session: Session, clerk: FakeClerk
) -> None:
    for number in range(9):
        add_complete(session, f"user_{number}", completed=9)
    clock = Clock()
    directory = UserDirectory(clerk, ProviderCalls(Rate(burst=4, per_second=2.5), clock))
    sweeper = Sweeper(replace(services.provisioning, directory=directory))

    sweeper.start("clock")
    first = len(clerk.requested)
    clock.seconds += 2
    sweeper.start("clock")

    assert (first, len(clerk.requested)) == (4, 6)


def test_rows_of_inactive_users_are_skipped_page_by_page(session: Session) -> None:
    for number in range(7):
        add_complete(session, f"user_{number}", completed=9, seen=60)
    add_complete(session, "seen", completed=8)
    now, steps = datetime.now(UTC), 0
    found: list[str] = []
    after: LookupPosition | None = None
    while steps == 0 or after is not None:
        page, after = users_to_refresh(
            session, before=now - DAYS, seen_after=now - 30 * DAYS, after=after, limit=2
        )
        found, steps = [*found, *page], steps + 1

    assert (found, steps) == (["seen"], 5)


def test_oldest_identities_are_read_by_index_without_sorting(session: Session) -> None:
    many_users = """
        INSERT INTO users (clerk_id, identity_completed_at)
        SELECT 'user_' || i, now() - i * interval '1 minute' FROM generate_series(1, 20000) AS i
    """
    session.execute(text(many_users))
    session.execute(text("ANALYZE users"))
    plans: list[str] = []

    def explain(statement: Any) -> None:
        if statement.is_select:
            compiled = statement.statement
            rows = session.connection().execute(_Explain(compiled))
            plans.append("\n".join(row[0] for row in rows))

    event.listen(session, "do_orm_execute", explain)
    now = datetime.now(UTC)
    users_to_refresh(session, before=now, seen_after=now, after=(now - 5 * DAYS, 1), limit=1000)

    plan = "\n".join(plans)
    assert (plan.count("users_refresh_idx"), "Sort" in plan, "Seq Scan" in plan) == (
        2,
        False,
        False,
    )


class _Explain(Executable, ClauseElement):
    inherit_cache = False

    def __init__(self, statement: Any) -> None:
        self.statement = statement


@compiles(_Explain)
def _explained(element: _Explain, compiler: Any, **options: Any) -> str:
    return f"EXPLAIN {compiler.process(element.statement, **options)}"
