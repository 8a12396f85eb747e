"""Transient errors are retried within the time budget; permanent errors are not."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import text
from structlog.testing import capture_logs

from benchmarks.databases import REFUSE_PROFILES, connect_to, count, hold_locks
from benchmarks.servers import eventually
from core.database import transaction
from core.metrics import REGISTRY
from core.server_status import ServerStatus
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
from tests.support.apps import create_app_on
from tests.support.users import BOB, NOW, PAGE, identity_of
from web.services import EXTENSION

# A sequence is not rolled back, so that only the first call is slow.
SLOW_ONCE = """
CREATE SEQUENCE calls;
CREATE FUNCTION slow_once() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF nextval('calls') = 1 THEN PERFORM pg_sleep(30); END IF; RETURN NEW; END $$;
CREATE TRIGGER slow_once BEFORE INSERT ON mentorados FOR EACH ROW EXECUTE FUNCTION slow_once();
"""
LOCK_USERS = "SELECT 1 FROM users FOR UPDATE"
# Returns after the backends have ended, so that the server's ends of the connections are closed.
TERMINATE_CONNECTIONS = """
SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid()
"""

COUNT_ROWS = "SELECT (SELECT count(*) FROM mentorados) + (SELECT count(*) FROM audit_events)"


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    """An app on that database."""
    with create_app_on(tmp_path, url) as app:
        yield app


@pytest.fixture
def service(app: Flask) -> ProvisioningService:
    """The provisioning service of that app."""
    found = app.extensions[EXTENSION].provisioning
    assert isinstance(found, ProvisioningService)
    return found


def ensure_bob(service: ProvisioningService) -> Outcome:
    return service.ensure(identity_of(BOB), source=PAGE, now=NOW).outcome


def test_ensure_is_retried_until_a_lock_is_released(
    app: Flask, service: ProvisioningService, url: str
) -> None:
    ensure_bob(service)

    def ensure_in_thread() -> Outcome:
        with app.app_context():
            return ensure_bob(service)

    with (
        capture_logs() as logs,
        hold_locks(url, LOCK_USERS) as holder,
        ThreadPoolExecutor(1) as pool,
    ):
        pending = pool.submit(ensure_in_thread)
        assert eventually(lambda: logs != [])
        holder.rollback()
        outcome = pending.result()

    assert outcome is Outcome.EXISTING
    assert {line.get("reason") for line in logs} == {"lock_not_available"}


def test_statement_that_times_out_once_is_retried(service: ProvisioningService, url: str) -> None:
    with connect_to(url) as other:
        other.exec_driver_sql(SLOW_ONCE)

    assert ensure_bob(service) is Outcome.CREATED
    assert count(url, "SELECT count(*) FROM provisioning_attempts") == 0


@pytest.mark.real_time_limits
def test_lock_that_is_not_released_raises_unavailable(
    service: ProvisioningService, url: str
) -> None:
    ensure_bob(service)

    with hold_locks(url, LOCK_USERS), pytest.raises(ProvisioningUnavailableError):
        ensure_bob(service)


def test_lock_on_one_user_does_not_block_the_others(service: ProvisioningService, url: str) -> None:
    with connect_to(url) as other:
        other.execute(text("INSERT INTO users (clerk_id) VALUES ('user_stuck')"))

    with hold_locks(url, LOCK_USERS):
        assert ensure_bob(service) is Outcome.CREATED


def test_ensure_replaces_a_terminated_connection_of_the_pool(
    service: ProvisioningService, url: str
) -> None:
    ensure_bob(service)

    terminated = count(url, TERMINATE_CONNECTIONS)

    assert (terminated, ensure_bob(service)) == (1, Outcome.EXISTING)


def test_transaction_replaces_a_terminated_connection_of_the_pool(app: Flask, url: str) -> None:
    with transaction() as session:
        session.execute(text("SELECT 1"))
    terminated = count(url, TERMINATE_CONNECTIONS)

    with transaction() as session:
        answer = session.scalar(text("SELECT 1"))

    assert (terminated, answer) == (1, 1)


def test_permanent_error_is_not_retried_and_writes_nothing(
    service: ProvisioningService, url: str
) -> None:
    with connect_to(url) as other:
        other.exec_driver_sql(REFUSE_PROFILES)

    with capture_logs() as logs, pytest.raises(ProvisioningError):
        ensure_bob(service)

    assert [line["event"] for line in logs] == ["mentorado_creation_failed"]
    assert count(url, COUNT_ROWS) == 0


def test_failure_is_logged_with_class_and_sqlstate_without_personal_data(
    service: ProvisioningService, url: str
) -> None:
    with connect_to(url) as other:
        other.exec_driver_sql(REFUSE_PROFILES)

    with capture_logs() as logs, pytest.raises(ProvisioningError):
        ensure_bob(service)

    [line] = logs
    assert (line["error"], line["sqlstate"], line["retryable"]) == (
        "IntegrityError",
        "23514",
        False,
    )
    assert str(BOB.email) not in str(line)


def test_failed_attempt_is_recorded_despite_the_rollback(
    service: ProvisioningService, url: str
) -> None:
    with connect_to(url) as other:
        other.exec_driver_sql(REFUSE_PROFILES)

    with pytest.raises(ProvisioningUnavailableError):
        ensure_bob(service)

    recorded = "SELECT count(*) FROM provisioning_attempts WHERE error_code = '23514'"
    assert (count(url, recorded), count(url, COUNT_ROWS)) == (1, 0)


def test_user_is_stored_after_a_failed_attempt(service: ProvisioningService, url: str) -> None:
    with connect_to(url) as other:
        other.exec_driver_sql(REFUSE_PROFILES)

    for _ in range(2):
        with pytest.raises(ProvisioningUnavailableError):
            ensure_bob(service)

    assert count(url, "SELECT count(*) FROM users WHERE email_verified") == 1


def test_last_background_failure_logs_a_dead_letter(service: ProvisioningService, url: str) -> None:
    with connect_to(url) as other:
        other.exec_driver_sql(REFUSE_PROFILES)
    single_attempt = replace(service, unit_of_work=RetryingUnitOfWork(RetryPolicy(max_attempts=1)))

    with capture_logs() as logs, pytest.raises(NeedsAttentionError):
        single_attempt.ensure(identity_of(BOB), source=Source("sweep"), now=NOW)

    assert "provisioning_dead_letter" in [line["event"] for line in logs]


@pytest.mark.real_time_limits
def test_each_retry_is_counted_by_its_reason(service: ProvisioningService, url: str) -> None:
    ensure_bob(service)
    labels = {"reason": "lock_not_available"}
    before = REGISTRY.get_sample_value("mentorado_ensure_retries_total", labels) or 0

    def is_counted() -> bool:
        with pytest.raises(ProvisioningUnavailableError):
            ensure_bob(service)
        return (REGISTRY.get_sample_value("mentorado_ensure_retries_total", labels) or 0) > before

    with hold_locks(url, LOCK_USERS):
        assert eventually(is_counted)  # a try that a busy machine delays is not repeated


class SilentServer(ServerStatus):
    """A server status in which the server has not answered for a minute."""

    @property
    def silent_seconds(self) -> float:
        return 60.0


@pytest.mark.real_time_limits
@pytest.mark.parametrize(
    ("server", "is_retried"), [(ServerStatus(), True), (SilentServer(), False)]
)
def test_outage_is_retried_only_at_its_beginning(
    service: ProvisioningService, url: str, server: ServerStatus, is_retried: bool
) -> None:
    ensure_bob(service)
    with_server = replace(service, unit_of_work=RetryingUnitOfWork(server=server))

    def has_retried() -> bool:
        with capture_logs() as logs, pytest.raises(ProvisioningUnavailableError):
            ensure_bob(with_server)
        return "mentorado_ensure_retried" in [line["event"] for line in logs]

    with hold_locks(url, LOCK_USERS):
        assert (eventually(has_retried) if is_retried else has_retried()) is is_retried


@pytest.mark.real_time_limits
def test_unreachable_database_raises_database_unavailable(tmp_path: Path) -> None:
    unreachable_url = "postgresql://nobody@127.0.0.1:1/none"

    with create_app_on(tmp_path, unreachable_url) as app, pytest.raises(DatabaseUnavailableError):
        ensure_bob(app.extensions[EXTENSION].provisioning)


@pytest.mark.parametrize(
    ("verified", "expected"),
    [
        pytest.param(True, ProvisioningUnavailableError, marks=pytest.mark.real_time_limits),
        (False, None),
    ],
)
def test_login_waits_for_the_lock_of_its_verified_address_only(
    service: ProvisioningService, url: str, verified: bool, expected: type[Exception] | None
) -> None:
    address_lock = f"SELECT pg_advisory_xact_lock({ADDRESS_LOCKS}, hashtext('{BOB.email}'))"
    identity = identity_of(BOB, verified=verified)

    with hold_locks(url, address_lock), pytest.raises(expected) if expected else nullcontext():
        service.ensure(identity, source=PAGE, now=NOW)
