"""The metrics for Prometheus: what is counted, and that labels contain no user data."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from benchmarks.databases import REFUSE_PROFILES
from benchmarks.servers import eventually
from models import Mentorado, User
from provisioning.rules import Rules
from sweep.stats import BacklogCollector
from sweep.sweeper import Sweeper
from tests.support.apps import create_app_on
from tests.support.types import Sign
from tests.support.users import ALICE, BOB, NOW
from web.services import Services

Labels = dict[str, str]
NUMERIC = ("status", "le")  # labels with numbers, which may equal an id
MINUTE = timedelta(minutes=1)
KEYS = {
    "clerk_publishable_key": "pk_test_aGFwcHktZm94LTEuY2xlcmsuYWNjb3VudHMuZGV2JA",
    "clerk_secret_key": "sk_test_x",
}
PREREGISTRATIONS = """
DELETE FROM mentorados;
INSERT INTO mentorados (nome_completo, email, turma)
SELECT 'Bob', 'bob@example.com', 'neon' FROM generate_series(1, {number})
"""
CONTRACT_NAMES = {
    "mentorado_ensure_total",
    "mentorado_ensure_seconds_count",
    "mentorado_ensure_retries_total",
    "session_cache_requests_total",
    "users_without_mentorado",
    "users_without_mentorado_oldest_seconds",
    "provisioning_dead_letters",
    "sweep_runs_total",
    "sweep_last_success_timestamp_seconds",
    "sweep_repaired_total",
    "identity_provider_requests_total",
    "http_requests_total",
    "http_request_seconds_count",
}


def samples(client: FlaskClient) -> Iterator[tuple[str, Labels, float]]:
    for family in text_string_to_metric_families(client.get("/metrics").text):
        yield from ((s.name, s.labels, s.value) for s in family.samples)


def value(client: FlaskClient, name: str, **labels: str) -> float:
    return sum(
        number
        for sample_name, sample_labels, number in samples(client)
        if sample_name == name and labels.items() <= sample_labels.items()
    )


@pytest.fixture
def user_without_profile(session: Session) -> User:
    """A user without a profile for ninety seconds."""
    user = User(clerk_id="user_eva", created_at=NOW - timedelta(seconds=90))
    session.add(user)
    session.commit()
    return user


@pytest.fixture
def gauges(client: FlaskClient) -> BacklogCollector:
    """A collector that reads the database each time, at a fixed time."""
    return BacklogCollector(Rules(), MINUTE, now=lambda: NOW)


def gauge(gauges: BacklogCollector, name: str) -> float:
    [metric] = [metric for metric in gauges.collect() if metric.name == name]
    return metric.samples[0].value


def test_first_login_is_counted_once_with_its_source(client: FlaskClient, sign: Sign) -> None:
    labels = {"entry": "api", "outcome": "created"}
    before = value(client, "mentorado_ensure_total", **labels)

    for _ in range(2):
        client.get("/api/auth/me", headers=sign(BOB))

    assert value(client, "mentorado_ensure_total", **labels) - before == 1


@pytest.mark.parametrize(
    ("statement", "outcome"),
    [
        (f"DELETE FROM mentorados; {REFUSE_PROFILES}", "failed"),
        ("UPDATE users SET blocked_at = now()", "denied"),
        ("SELECT 1", "existing"),
        (PREREGISTRATIONS.format(number=2), "ambiguous"),
        (PREREGISTRATIONS.format(number=1), "linked"),
    ],
)
def test_outcome_is_counted(
    client: FlaskClient, connection: Connection, sign: Sign, statement: str, outcome: str
) -> None:
    client.post("/api/auth/ensure", headers=sign(BOB))
    connection.execute(text(statement))
    before = value(client, "mentorado_ensure_seconds_count", entry="api", outcome=outcome)

    client.post("/api/auth/ensure", headers=sign(BOB))

    after = value(client, "mentorado_ensure_seconds_count", entry="api", outcome=outcome)
    assert after - before == 1


def test_all_metrics_of_the_contract_exist(
    client: FlaskClient, services: Services, sign: Sign, user_without_profile: User
) -> None:
    client.get("/api/auth/me", headers=sign(BOB))
    Sweeper(services.provisioning).start("cli")

    # Nothing was retried, and no call to the provider was made.
    absent = {"mentorado_ensure_retries_total", "identity_provider_requests_total"}
    assert eventually(lambda: CONTRACT_NAMES - {name for name, _, _ in samples(client)} <= absent)


def test_gauges_show_a_user_without_profile_and_its_age(
    gauges: BacklogCollector, user_without_profile: User
) -> None:
    assert gauge(gauges, "users_without_mentorado") == 1
    assert gauge(gauges, "users_without_mentorado_oldest_seconds") == 90


def test_gauges_are_zero_when_all_users_have_a_profile(
    gauges: BacklogCollector, alice: Mentorado
) -> None:
    assert gauge(gauges, "users_without_mentorado") == 0
    assert gauge(gauges, "users_without_mentorado_oldest_seconds") == 0


def test_uninvited_user_is_not_counted(
    gauges: BacklogCollector, user_without_profile: User
) -> None:
    gauges.rules = Rules(invited_only=True)

    assert gauge(gauges, "users_without_mentorado") == 0


def test_invited_user_is_counted(
    gauges: BacklogCollector, user_without_profile: User, session: Session
) -> None:
    gauges.rules = Rules(invited_only=True)
    user_without_profile.email, user_without_profile.email_verified = "eva@example.com", True
    session.add(Mentorado(nome_completo="Eva", email="EVA@example.com", turma="neon"))
    session.commit()

    assert gauge(gauges, "users_without_mentorado") == 1


def test_reading_is_cached_fifty_times_as_long_as_it_took(client: FlaskClient) -> None:
    ticks = iter([0.0, 0.0, 2.0, 2.0, 101.9, 102.0, 102.0, 103.0, 103.0])
    gauges = BacklogCollector(Rules(), MINUTE, now=lambda: NOW, clock=lambda: next(ticks))

    first, second, third = gauges.read(), gauges.read(), gauges.read()

    assert first is second
    assert third is not second


def test_sweep_and_its_repaired_profiles_are_counted(
    client: FlaskClient, services: Services, user_without_profile: User
) -> None:
    before = value(client, "mentorado_ensure_total", entry="sweep", outcome="created")

    Sweeper(services.provisioning).start("cli")

    gauges = BacklogCollector(Rules(), MINUTE, now=lambda: NOW)
    assert (gauge(gauges, "sweep_runs"), gauge(gauges, "sweep_repaired")) == (1, 1)
    after = value(client, "mentorado_ensure_total", entry="sweep", outcome="created")
    assert after - before == 1


def test_dry_run_is_counted_but_is_no_success(
    gauges: BacklogCollector, services: Services, user_without_profile: User
) -> None:
    Sweeper(services.provisioning).start("cli", dry_run=True)

    assert (gauge(gauges, "sweep_runs"), gauge(gauges, "sweep_repaired")) == (1, 0)
    names = [metric.name for metric in gauges.collect()]
    assert "sweep_last_success_timestamp_seconds" not in names


@pytest.mark.parametrize(
    ("method", "path", "labels"),
    [
        ("GET", "/api/mentorados/4711", {"route": "/api/mentorados/<mentorado_id>"}),
        ("GET", "/user_alice/secret", {"route": "unknown", "status": "404"}),
        ("SPY", "/healthz", {"method": "other", "status": "405"}),
        ("GET", "/static/theme.css", {"route": "/static/<filename>", "status": "200"}),
    ],
)
def test_labels_are_taken_from_fixed_lists(
    client: FlaskClient, method: str, path: str, labels: Labels
) -> None:
    before = value(client, "http_requests_total", **labels)

    with client.open(path, method=method):
        pass

    assert value(client, "http_requests_total", **labels) - before == 1


def test_labels_contain_no_user_data(client: FlaskClient, sign: Sign, alice: Mentorado) -> None:
    client.get("/api/auth/me", headers=sign(ALICE))
    client.get(f"/api/mentorados/{alice.id}", headers=sign(ALICE))

    labels = {pair for _, labels, _ in samples(client) for pair in labels.items()}
    values = {value for name, value in labels if name not in NUMERIC}

    assert not {v for v in values if "alice" in v.lower() or v == str(alice.id)}


def test_counters_are_available_without_the_database(tmp_path: Path) -> None:
    with create_app_on(tmp_path, "postgresql://nobody@127.0.0.1:1/none") as app:
        client = app.test_client()
        client.get("/healthz")
        names = {name for name, _, _ in samples(client)}

    assert "http_requests_total" in names
    assert "users_without_mentorado" not in names


@pytest.fixture
def production(tmp_path: Path, template_url: str, token: str | None) -> Iterator[FlaskClient]:
    """A client of an app in production."""
    settings = {"app_env": "production", "secret_key": "x", "metrics_token": token, **KEYS}
    with create_app_on(tmp_path, template_url, **settings) as app:
        yield app.test_client()


@pytest.mark.parametrize(
    ("token", "header", "status"),
    [
        ("s3cr3t", "Bearer s3cr3t", 200),
        ("s3cr3t", "Bearer guess", 401),
        ("s3cr3t", "Bearer é", 401),
        ("s3cr3t", "s3cr3t", 401),
        ("s3cr3t", "", 401),
        (None, "Bearer s3cr3t", 404),
        (None, "Bearer ", 404),
    ],
)
def test_production_requires_the_token(production: FlaskClient, header: str, status: int) -> None:
    response = production.get("/metrics", headers={"Authorization": header})

    assert response.status_code == status
