"""Errors that can pass are waited out within the budget; the others are not tried again."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import text
from structlog.testing import capture_logs

from core.database import transaction
from core.metrics import OURS
from core.server_status import ServerStatus
from dev.databases import REFUSE_PROFILES, app_on, connect_to, count, locking
from provisioning.attempts import RetryPolicy
from provisioning.audit import Source
from provisioning.ensure import Outcome
from provisioning.errors import (
    DatabaseUnavailableError,
    NeedsAttentionError,
    ProvisioningError,
    ProvisioningUnavailableError,
)
from provisioning.profiles import ADDRESS_LOCKS
from provisioning.retry import RetryingUnitOfWork
from provisioning.service import ProvisioningService
from tests.support.users import BOB, NOW, PAGE, identity_of
from web.services import EXTENSION

# A sequence goes on whatever becomes of the transaction, so that only the first call is slow.
SLOW_ONCE = """
CREATE SEQUENCE calls;
CREATE FUNCTION slow_once() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF nextval('calls') = 1 THEN PERFORM pg_sleep(30); END IF; RETURN NEW; END $$;
CREATE TRIGGER slow_once BEFORE INSERT ON mentorados FOR EACH ROW EXECUTE FUNCTION slow_once();
"""
USERS_LOCKED = "SELECT 1 FROM users FOR UPDATE"
# Returns when they are gone, so that their ends of the connections are closed.
CUT_OFF = """
SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid()
"""

WRITTEN = "SELECT (SELECT count(*) FROM mentorados) + (SELECT count(*) FROM audit_events)"


@pytest.fixture
def url(copy_database: Callable[[str], str], tmp_path: Path) -> str:
    """A database of the test's own."""
    return copy_database(f"patience_{tmp_path.name}")


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    """An app on that database."""
    with app_on(tmp_path, url) as app:
        yield app


@pytest.fixture
def guarantee(app: Flask) -> ProvisioningService:
    """The guarantee of that app."""
    found = app.extensions[EXTENSION].provisioning
    assert isinstance(found, ProvisioningService)
    return found


def outcome(guarantee: ProvisioningService) -> Outcome:
    return guarantee.ensure(identity_of(BOB), source=PAGE, now=NOW).outcome


def test_lock_that_goes_away_is_waited_out(
    guarantee: ProvisioningService, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome(guarantee)
    reasons: list[str] = []
    with locking(url, USERS_LOCKED) as blocker:

        def let_go(reason: str) -> None:
            reasons.append(reason)
            blocker.rollback()

        monkeypatch.setattr("provisioning.retry._log_retry", let_go)

        assert outcome(guarantee) is Outcome.EXISTING

    assert reasons == ["lock_not_available"]


def test_statement_that_is_slow_once_is_tried_again(
    guarantee: ProvisioningService, url: str
) -> None:
    with connect_to(url) as other:
        other.exec_driver_sql(SLOW_ONCE)

    assert outcome(guarantee) is Outcome.CREATED
    assert count(url, "SELECT count(*) FROM provisioning_attempts") == 0


def test_lock_that_stays_is_given_up_on(guarantee: ProvisioningService, url: str) -> None:
    outcome(guarantee)

    with locking(url, USERS_LOCKED), pytest.raises(ProvisioningUnavailableError):
        outcome(guarantee)


def test_lock_on_one_person_leaves_the_others_alone(
    guarantee: ProvisioningService, url: str
) -> None:
    with connect_to(url) as other:
        other.execute(text("INSERT INTO users (clerk_id) VALUES ('user_stuck')"))

    with locking(url, USERS_LOCKED):
        assert outcome(guarantee) is Outcome.CREATED


def test_connections_that_died_in_the_pool_are_replaced(
    guarantee: ProvisioningService, url: str
) -> None:
    outcome(guarantee)

    cut = count(url, CUT_OFF)

    assert (cut, outcome(guarantee)) == (1, Outcome.EXISTING)


def test_transaction_replaces_a_connection_that_died_in_the_pool(app: Flask, url: str) -> None:
    with transaction() as session:
        session.execute(text("SELECT 1"))
    cut = count(url, CUT_OFF)

    with transaction() as session:
        answer = session.scalar(text("SELECT 1"))

    assert (cut, answer) == (1, 1)


def test_permanent_error_is_not_tried_again_and_leaves_no_half_a_profile(
    guarantee: ProvisioningService, url: str
) -> None:
    with connect_to(url) as other:
        other.exec_driver_sql(REFUSE_PROFILES)

    with capture_logs() as logs, pytest.raises(ProvisioningError):
        outcome(guarantee)

    assert [line["event"] for line in logs] == ["mentorado_creation_failed"]
    assert count(url, WRITTEN) == 0


def test_failure_is_logged_with_class_and_state_and_without_the_person(
    guarantee: ProvisioningService, url: str
) -> None:
    with connect_to(url) as other:
        other.exec_driver_sql(REFUSE_PROFILES)

    with capture_logs() as logs, pytest.raises(ProvisioningError):
        outcome(guarantee)

    [line] = logs
    assert (line["error"], line["sqlstate"], line["retryable"]) == (
        "IntegrityError",
        "23514",
        False,
    )
    assert str(BOB.email) not in str(line)


def test_giving_up_leaves_a_record_that_outlives_the_rollback(
    guarantee: ProvisioningService, url: str
) -> None:
    with connect_to(url) as other:
        other.exec_driver_sql(REFUSE_PROFILES)

    with pytest.raises(ProvisioningUnavailableError):
        outcome(guarantee)

    record = "SELECT count(*) FROM provisioning_attempts WHERE error_code = '23514'"
    assert (count(url, record), count(url, WRITTEN)) == (1, 0)


def test_whoever_could_not_be_helped_is_known_afterwards(
    guarantee: ProvisioningService, url: str
) -> None:
    with connect_to(url) as other:
        other.exec_driver_sql(REFUSE_PROFILES)

    for _ in range(2):
        with pytest.raises(ProvisioningUnavailableError):
            outcome(guarantee)

    assert count(url, "SELECT count(*) FROM users WHERE email_verified") == 1


def test_background_that_gives_up_for_good_says_so(
    guarantee: ProvisioningService, url: str
) -> None:
    with connect_to(url) as other:
        other.exec_driver_sql(REFUSE_PROFILES)
    last_chance = replace(guarantee, unit_of_work=RetryingUnitOfWork(RetryPolicy(max_attempts=1)))

    with capture_logs() as logs, pytest.raises(NeedsAttentionError):
        last_chance.ensure(identity_of(BOB), source=Source("sweep"), now=NOW)

    assert "provisioning_dead_letter" in [line["event"] for line in logs]


def test_each_retry_is_counted_by_its_reason(
    guarantee: ProvisioningService, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome(guarantee)
    labels = {"reason": "lock_not_available"}
    before = OURS.get_sample_value("mentorado_ensure_retries_total", labels) or 0

    with locking(url, USERS_LOCKED), pytest.raises(ProvisioningUnavailableError):
        outcome(guarantee)

    after = OURS.get_sample_value("mentorado_ensure_retries_total", labels) or 0
    assert after > before


class SilentServer(ServerStatus):
    """The server has not answered for a while."""

    @property
    def silent_seconds(self) -> float:
        return 60.0


@pytest.mark.parametrize(
    ("server", "is_patient"), [(ServerStatus(), True), (SilentServer(), False)]
)
def test_outage_is_waited_out_only_at_its_beginning(
    guarantee: ProvisioningService, url: str, server: ServerStatus, is_patient: bool
) -> None:
    outcome(guarantee)
    waiting = replace(guarantee, unit_of_work=RetryingUnitOfWork(server=server))

    with (
        capture_logs() as logs,
        locking(url, USERS_LOCKED),
        pytest.raises(ProvisioningUnavailableError),
    ):
        outcome(waiting)

    retries = [line for line in logs if line["event"] == "mentorado_ensure_retried"]
    assert bool(retries) is is_patient


def test_absent_database_is_told_apart(tmp_path: Path) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/none"

    with app_on(tmp_path, nowhere) as app, pytest.raises(DatabaseUnavailableError):
        outcome(app.extensions[EXTENSION].provisioning)


@pytest.mark.parametrize(
    ("verified", "expected"), [(True, ProvisioningUnavailableError), (False, None)]
)
def test_login_takes_turns_with_whoever_works_on_its_verified_address(
    guarantee: ProvisioningService, url: str, verified: bool, expected: type[Exception] | None
) -> None:
    address_lock = f"SELECT pg_advisory_xact_lock({ADDRESS_LOCKS}, hashtext('{BOB.email}'))"
    who = identity_of(BOB, verified=verified)

    with locking(url, address_lock), pytest.raises(expected) if expected else nullcontext():
        guarantee.ensure(who, source=PAGE, now=NOW)
