"""The sweep's last step: people of whom their provider has not told everything yet."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, event, select, text, update
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.expression import ClauseElement, Executable

from auth.call_budget import Rate
from auth.clerk_client import Document
from auth.errors import (
    ProviderUnavailableError,
    RateLimitedError,
    SecretKeyRefusedError,
    UnusableAnswerError,
)
from auth.identity import Identity
from auth.provider_calls import ProviderCalls
from auth.user_directory import UserDirectory
from dev.fake_clerk import DevUser, clerk_user
from models import Mentorado, ProvisioningAttempt, User
from models.mentorado import Turma
from provisioning.ensure import EnsureResult
from provisioning.errors import (
    DatabaseUnavailableError,
    IdentityUnavailableError,
    ProvisioningUnavailableError,
)
from provisioning.queries import Position, is_identity_complete, longest_unasked
from sweep.scheduler import build_sweeper
from sweep.sweeper import Sweeper
from tests.support.concurrency import Clock
from tests.support.users import NOW, PAGE
from web.services import Services

LATE = DevUser("user_late", "Lia Prado", "lia@example.com")


@pytest.fixture
def sweeper(services: Services, session: Session) -> Sweeper:
    """A sweeper whose provider knows Lia; the database has only heard her id."""
    assert services.dev_provider is not None
    services.dev_provider.save_user(LATE)
    session.add(User(clerk_id=LATE.clerk_id))
    session.commit()
    return build_sweeper(services.provisioning)


def waiting_profile(session: Session) -> Mentorado:
    profile = Mentorado(nome_completo="Lia Pré", email=LATE.email, turma=Turma.NEON)
    session.add(profile)
    session.commit()
    return profile


class Refusing:
    """What completes people, in trouble; counts how often it was asked."""

    def __init__(self, error: Exception) -> None:
        self.error, self.asked = error, 0

    def __call__(self, clerk_id: str) -> EnsureResult:
        self.asked += 1
        raise self.error


def test_late_address_finds_what_waits_for_it(session: Session, sweeper: Sweeper) -> None:
    waiting = waiting_profile(session)

    counts = sweeper.start("cli")

    session.expire_all()
    assert waiting.user_id is not None
    assert (counts.created, counts.linked, is_identity_complete(session, LATE.clerk_id)) == (
        1,
        1,
        True,
    )


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

    assert is_identity_complete(session, "user_of_another_time")


def test_provider_that_is_away_is_asked_twice_and_the_run_succeeds(
    session: Session, sweeper: Sweeper
) -> None:
    session.add_all(User(clerk_id=f"user_{number}") for number in range(3))
    session.commit()
    away = Refusing(IdentityUnavailableError("away"))

    counts = replace(sweeper, refresh_from_clerk=away).start("cli")

    assert (counts.created, away.asked) == (4, 2)


def test_person_who_cannot_be_completed_keeps_nobody_waiting(
    session: Session, sweeper: Sweeper
) -> None:
    session.add(User(clerk_id="user_other"))
    session.commit()
    failing = Refusing(ProvisioningUnavailableError("not just now"))

    replace(sweeper, refresh_from_clerk=failing).start("cli")

    assert failing.asked == 2


def test_database_that_goes_away_ends_the_run(sweeper: Sweeper) -> None:
    with pytest.raises(DatabaseUnavailableError):
        replace(sweeper, refresh_from_clerk=Refusing(DatabaseUnavailableError("gone"))).start("cli")


def test_dry_run_asks_nobody(sweeper: Sweeper) -> None:
    asked = Refusing(AssertionError())

    replace(sweeper, refresh_from_clerk=asked).start("cli", dry_run=True)

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

    replace(sweeper, refresh_from_clerk=asked).start("cli")

    assert asked.asked == 0


class Strange:
    """A provider that knows some users well, and answers strangely about others."""

    def __init__(self) -> None:
        self.answers: dict[str, Document | Exception] = {}
        self.asked: list[str] = []

    def user(self, clerk_id: str) -> Document:
        self.asked.append(clerk_id)
        answer = self.answers.get(clerk_id, clerk_user(DevUser(clerk_id, f"Nome {clerk_id}")))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def users(self, offset: int, limit: int) -> list[object]:
        return []


@pytest.fixture
def strange() -> Strange:
    return Strange()


@pytest.fixture
def customer(services: Services, session: Session, strange: Strange) -> Sweeper:
    """A sweeper that asks that provider."""
    directory = UserDirectory(strange, ProviderCalls(Rate(999, 999)))
    return build_sweeper(replace(services.provisioning, directory=directory))


def add_incomplete(session: Session, *clerk_ids: str) -> None:
    """Users of whom nothing is known, the last of them the newest."""
    for clerk_id in clerk_ids:
        session.add(User(clerk_id=clerk_id))
        session.commit()


def complete(session: Session) -> list[str]:
    heard = select(User.clerk_id).where(User.identity_completed_at.is_not(None))
    return list(session.scalars(heard.order_by(User.id)))


def recorded(session: Session) -> list[tuple[str, int, str | None]]:
    rows = select(
        ProvisioningAttempt.clerk_id, ProvisioningAttempt.attempts, ProvisioningAttempt.error_code
    )
    return [(row[0], row[1], row[2]) for row in session.execute(rows)]


STRANGE_ANSWERS: dict[str, Document | Exception] = {
    **{code: UnusableAnswerError(code) for code in ("400", "410", "422", "not_json")},
    "another_user": clerk_user(DevUser("user_else")),
    "not_a_user": {"id": None},
}


@pytest.mark.parametrize(("code", "answer"), STRANGE_ANSWERS.items(), ids=STRANGE_ANSWERS)
def test_strange_answer_about_one_user_starves_no_other(
    session: Session, customer: Sweeper, strange: Strange, code: str, answer: Document | Exception
) -> None:
    add_incomplete(session, "user_1", "user_2", "user_strange")
    strange.answers["user_strange"] = answer

    customer.start("clock")

    assert complete(session) == ["user_1", "user_2"]
    assert recorded(session) == [("user_strange", 1, code)]


def test_user_with_a_strange_answer_has_a_profile_all_the_same(
    session: Session, customer: Sweeper, strange: Strange
) -> None:
    add_incomplete(session, "user_strange")
    strange.answers["user_strange"] = UnusableAnswerError("422")

    customer.start("clock")
    session.execute(delete(Mentorado))
    session.commit()

    assert customer.start("clock").created == 1


@pytest.mark.parametrize("answer", [UnusableAnswerError("422"), {"id": None}], ids=str)
def test_login_with_a_strange_answer_is_provisioned_from_the_token(
    services: Services, session: Session, strange: Strange, answer: Document | Exception
) -> None:
    strange.answers["user_strange"] = answer
    directory = UserDirectory(strange, ProviderCalls(Rate(9, 9)))
    guarantee = replace(services.provisioning, directory=directory)

    context = guarantee.context_for(Identity("user_strange", "Eva"), source=PAGE, now=NOW)

    assert (context.status, context.outcome, recorded(session)) == ("ready", "created", [])


def test_user_with_a_strange_answer_is_asked_about_when_the_pause_is_over(
    session: Session, customer: Sweeper, strange: Strange
) -> None:
    add_incomplete(session, "user_strange")
    strange.answers["user_strange"] = UnusableAnswerError("422")
    customer.start("clock")
    customer.start("clock")
    before = len(strange.asked)
    session.execute(update(ProvisioningAttempt).values(next_attempt_at=NOW))
    session.commit()

    customer.start("clock")

    assert (before, len(strange.asked)) == (1, 2)
    assert recorded(session) == [("user_strange", 2, "422")]


def test_good_answer_ends_the_record(session: Session, customer: Sweeper, strange: Strange) -> None:
    add_incomplete(session, "user_strange")
    strange.answers["user_strange"] = UnusableAnswerError("422")
    customer.start("clock")
    strange.answers.clear()

    customer.start("cli")
    customer.start("clock")

    assert (complete(session), recorded(session)) == (["user_strange"], [])


@pytest.mark.parametrize("clerk_id", ["", " ", "null", "../users", "a/b", "u%2f"])
def test_id_that_the_provider_could_not_have_is_settled_without_a_question(
    session: Session, customer: Sweeper, strange: Strange, clerk_id: str
) -> None:
    add_incomplete(session, "user_1", clerk_id)

    customer.start("clock")

    assert (complete(session), strange.asked) == (["user_1", clerk_id], ["user_1"])


def test_outage_about_one_user_stops_nobody_and_is_no_attempt(
    session: Session, customer: Sweeper, strange: Strange
) -> None:
    add_incomplete(session, "user_1", "user_2", "user_broken")
    strange.answers["user_broken"] = ProviderUnavailableError("status 500")

    customer.start("clock")

    assert (complete(session), recorded(session)) == (["user_1", "user_2"], [])


def test_each_run_goes_on_where_the_last_one_stopped(
    session: Session, customer: Sweeper, strange: Strange
) -> None:
    add_incomplete(session, "user_1", "user_2", "broken_1", "broken_2", "broken_3")
    for clerk_id in ("broken_1", "broken_2", "broken_3"):
        strange.answers[clerk_id] = ProviderUnavailableError("status 500")

    customer.start("clock")
    stopped_after = list(strange.asked)
    customer.start("clock")

    assert stopped_after == ["broken_3", "broken_2"]
    assert (complete(session), recorded(session)) == (["user_1", "user_2"], [])


@pytest.mark.parametrize(
    "trouble", [ProviderUnavailableError("status 500"), SecretKeyRefusedError(401)], ids=str
)
def test_trouble_for_everybody_is_an_attempt_of_nobody(
    session: Session, customer: Sweeper, strange: Strange, trouble: Exception
) -> None:
    add_incomplete(session, *(f"user_{index}" for index in range(5)))
    strange.answers = {f"user_{index}": trouble for index in range(5)}

    for _ in range(3):
        customer.start("clock")

    assert (complete(session), recorded(session), len(strange.asked)) == ([], [], 6)


def test_provider_that_asks_for_rest_is_left_to_the_next_run(
    session: Session, customer: Sweeper, strange: Strange
) -> None:
    add_incomplete(session, "user_1", "user_2")
    strange.answers["user_2"] = RateLimitedError(60)

    customer.start("clock")
    customer.start("clock")

    assert (strange.asked, recorded(session)) == (["user_2"], [])


def test_budget_that_is_spent_is_left_to_the_next_run(
    services: Services, session: Session, strange: Strange
) -> None:
    add_incomplete(session, *(f"user_{index}" for index in range(6)))
    clock = Clock()
    directory = UserDirectory(strange, ProviderCalls(Rate(burst=4, per_second=2.5), clock))
    sweeper = build_sweeper(replace(services.provisioning, directory=directory))

    sweeper.start("clock")
    first = list(strange.asked)
    clock.seconds += 4
    sweeper.start("clock")

    assert first == ["user_5", "user_4", "user_3", "user_2"]
    assert (len(complete(session)), recorded(session)) == (6, [])


def test_without_a_provider_nobody_is_asked_about(services: Services, session: Session) -> None:
    add_incomplete(session, "user_1")

    counts = build_sweeper(replace(services.provisioning, directory=None)).start("clock")

    assert (counts.created, complete(session)) == (1, [])


DAYS = timedelta(days=1)


def add_known(
    session: Session,
    clerk_id: str,
    *,
    completed: int,
    asked: int | None = None,
    seen: int = 1,
    **facts: Any,
) -> None:
    """A user whose identity was completed, asked for and seen so many days ago."""
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


def test_users_longest_unasked_are_asked_about_again_oldest_first(
    session: Session, customer: Sweeper, strange: Strange
) -> None:
    add_known(session, "asked_since", completed=9, asked=3)
    add_known(session, "two_days", completed=2)
    add_known(session, "four_days", completed=4)
    add_known(session, "today", completed=0)
    add_known(session, "asked_today", completed=9, asked=0)

    customer.start("clock")

    assert strange.asked == ["four_days", "asked_since", "two_days"]


def test_incomplete_users_are_asked_about_before_old_identities(
    session: Session, customer: Sweeper, strange: Strange
) -> None:
    add_known(session, "old", completed=9)
    add_incomplete(session, "incomplete")

    customer.start("clock")

    assert strange.asked == ["incomplete", "old"]


@pytest.mark.parametrize("facts", [{"seen": 31}, {"blocked_at": NOW}, {"deleted_at": NOW}], ids=str)
def test_users_not_seen_lately_or_denied_are_not_asked_about_again(
    session: Session, customer: Sweeper, strange: Strange, facts: dict[str, Any]
) -> None:
    add_known(session, "user_1", completed=9, **facts)

    customer.start("clock")

    assert strange.asked == []


def test_refreshed_identity_is_stored_and_not_asked_for_again(
    session: Session, customer: Sweeper, strange: Strange
) -> None:
    add_known(session, "user_1", completed=9)

    customer.start("clock")
    customer.start("clock")

    name = session.scalars(select(User.name).execution_options(populate_existing=True)).one()
    assert (strange.asked, name) == (["user_1"], "Nome user_1")


@pytest.mark.parametrize("answer", STRANGE_ANSWERS.values(), ids=STRANGE_ANSWERS)
def test_strange_answer_about_a_known_user_is_no_failed_attempt(
    session: Session, customer: Sweeper, strange: Strange, answer: Document | Exception
) -> None:
    add_known(session, "user_strange", completed=9)
    strange.answers["user_strange"] = answer

    customer.start("clock")
    customer.start("clock")

    assert (strange.asked, recorded(session)) == (["user_strange"], [])


def test_outage_ends_the_refresh_of_a_run(
    session: Session, customer: Sweeper, strange: Strange
) -> None:
    for number in range(5):
        add_known(session, f"user_{number}", completed=9 - number)
        strange.answers[f"user_{number}"] = ProviderUnavailableError("status 500")

    customer.start("clock")
    customer.start("clock")

    assert strange.asked == ["user_0", "user_1", "user_2", "user_3"]


def test_background_budget_bounds_the_refresh(
    services: Services, session: Session, strange: Strange
) -> None:
    for number in range(9):
        add_known(session, f"user_{number}", completed=9)
    clock = Clock()
    directory = UserDirectory(strange, ProviderCalls(Rate(burst=4, per_second=2.5), clock))
    sweeper = build_sweeper(replace(services.provisioning, directory=directory))

    sweeper.start("clock")
    first = len(strange.asked)
    clock.seconds += 2
    sweeper.start("clock")

    assert (first, len(strange.asked)) == (4, 6)


def test_rows_of_users_not_seen_lately_are_passed_in_steps(session: Session) -> None:
    for number in range(7):
        add_known(session, f"user_{number}", completed=9, seen=60)
    add_known(session, "seen", completed=8)
    now, steps = datetime.now(UTC), 0
    found: list[str] = []
    after: Position | None = None
    while steps == 0 or after is not None:
        page, after = longest_unasked(
            session, before=now - DAYS, seen_after=now - 30 * DAYS, after=after, limit=2
        )
        found, steps = [*found, *page], steps + 1

    assert (found, steps) == (["seen"], 5)


def test_longest_unasked_are_found_without_sorting(session: Session) -> None:
    many = """
        INSERT INTO users (clerk_id, identity_completed_at)
        SELECT 'user_' || i, now() - i * interval '1 minute' FROM generate_series(1, 20000) AS i
    """
    session.execute(text(many))
    session.execute(text("ANALYZE users"))
    plans: list[str] = []

    def explain(statement: Any) -> None:
        if statement.is_select:
            compiled = statement.statement
            plan = session.connection().execute(_Explain(compiled))
            plans.append("\n".join(row[0] for row in plan))

    event.listen(session, "do_orm_execute", explain)
    now = datetime.now(UTC)
    longest_unasked(session, before=now, seen_after=now, after=(now - 5 * DAYS, 1), limit=1000)

    found = "\n".join(plans)
    assert (found.count("users_refresh_idx"), "Sort" in found, "Seq Scan" in found) == (
        2,
        False,
        False,
    )


class _Explain(Executable, ClauseElement):
    inherit_cache = False

    def __init__(self, statement: Any) -> None:
        self.statement = statement


@compiles(_Explain)
def _explained(element: _Explain, compiler: Any, **how: Any) -> str:
    return f"EXPLAIN {compiler.process(element.statement, **how)}"
