"""The commands `flask config` and `flask cache clear`, and lines of `flask doctor`."""

import os
import ssl
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from redis import StrictRedis
from sqlalchemy import make_url

from benchmarks.servers import RedisServer
from cli.doctor import Finding, examine_clerk
from core.config import Config
from core.database import background_transaction
from models import User
from tests.support.apps import create_app_on
from web.services import EXTENSION, Services

SECRET = "hush-0123456789"


def test_config_prints_every_setting_without_secrets(
    tmp_path: Path, template_url: str, redis_server: RedisServer
) -> None:
    url = make_url(template_url).set(password=SECRET).update_query_dict({"passfile": SECRET})
    settings = {
        "secret_key": SECRET,
        "metrics_token": SECRET,
        "redis_url": redis_server.url.replace("://", f"://:{SECRET}@"),
        "admin_emails": "bia@example.com",
        "clerk_publishable_key": "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k",
        "clerk_secret_key": f"sk_live_{SECRET}",
    }
    database_url = url.render_as_string(hide_password=False)
    with create_app_on(tmp_path, database_url, **settings) as app:
        result = app.test_cli_runner().invoke(args=["config"])

    lines = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()}
    assert SECRET not in result.output
    assert lines["SECRET_KEY"] == ["(withheld)", "set"]
    assert lines["REDIS_URL"] == [redis_server.url, "set"]
    assert lines["DATABASE_URL"][0].startswith("postgresql+psycopg2:///template?")
    assert lines["CLERK_ISSUER"] == ["https://clerk.example.com", "derived"]
    assert lines["ADMIN_EMAILS"] == ["bia@example.com", "set"]
    assert lines["WEB_THREADS"] == ["8", "default"]


def test_cache_clear_removes_the_keys_of_this_program_only(
    tmp_path: Path, template_url: str, redis: RedisServer
) -> None:
    with StrictRedis.from_url(redis.url) as store:
        store.mset({f"neon:{number}": "x" for number in range(1_500)})
        store.set("another:program", "x")
        with create_app_on(tmp_path, template_url, redis_url=redis.url) as app:
            result = app.test_cli_runner().invoke(args=["cache", "clear"])
        keys = store.keys()

    assert (result.exit_code, result.stdout) == (0, "1500 keys removed\n")
    assert keys == [b"another:program"]


def test_cache_clear_names_a_redis_that_does_not_answer(tmp_path: Path, template_url: str) -> None:
    url = f"redis://:{SECRET}@127.0.0.1:1/0"
    with create_app_on(tmp_path, template_url, redis_url=url) as app:
        result = app.test_cli_runner().invoke(args=["cache", "clear"])

    assert (result.exit_code, SECRET in result.output) == (1, False)
    assert "the cache at 127.0.0.1:1 did not answer" in result.stderr


def test_doctor_names_what_does_not_answer_with_an_advice(tmp_path: Path) -> None:
    urls = {
        "database_url": "postgresql://127.0.0.1:1/none",
        "redis_url": f"redis://:{SECRET}@127.0.0.1:1/0",
    }
    with create_app_on(tmp_path, urls.pop("database_url"), **urls) as app:
        output = app.test_cli_runner().invoke(args=["doctor"]).output

    assert "Connection refused: start the server, or correct DATABASE_URL" in output
    assert "FAIL  redis          127.0.0.1:1 does not answer: start it, or correct REDIS" in output


def test_trusted_certificates_are_those_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", "")
    monkeypatch.delenv("SSL_CERT_DIR")
    folder = ssl.get_default_verify_paths().capath
    url = "postgresql://127.0.0.1:1/none?sslmode=verify-full&sslrootcert=system"
    with create_app_on(tmp_path, url):
        assert os.environ.get("SSL_CERT_DIR") == folder


CLERK = {
    "clerk_publishable_key": f"pk_live_{b64encode(b'clerk.example.com$').decode()}",
    "clerk_authorized_parties": frozenset({"https://app.example.com"}),
}


def clerk_findings(app: Flask, **settings: object) -> dict[str, Finding]:
    """Return the findings about Clerk that need no call to it."""
    parts: Services = app.extensions[EXTENSION]
    config = Config.model_validate({**CLERK, **settings})
    return {finding.part: finding for finding in examine_clerk(replace(parts, config=config))}


@pytest.mark.parametrize(
    ("origin", "is_well"),
    [
        ("https://app.example.com", True),
        ("https://example.com", True),
        ("http://app.example.com", False),
        ("https://app.exemplo.com.br", False),
        ("https://evilexample.com", False),
    ],
)
def test_doctor_compares_origins_with_the_domain_of_the_instance(
    tmp_path: Path, template_url: str, origin: str, *, is_well: bool
) -> None:
    with create_app_on(tmp_path, template_url) as app:
        findings = clerk_findings(app, clerk_authorized_parties=frozenset({origin}))

    assert findings["clerk origins"].is_well is is_well
    assert origin in findings["clerk origins"].detail


def test_doctor_says_what_follows_from_missing_webhook_and_claims(
    tmp_path: Path, copy_database: Callable[[str], str]
) -> None:
    with create_app_on(tmp_path, copy_database("claims")) as app:
        with background_transaction() as session:
            now = app.extensions[EXTENSION].now()
            session.add_all([User(clerk_id="a", identity_asked_at=now), User(clerk_id="b")])
        findings = clerk_findings(app)

    assert "24 h later" in findings["clerk webhook"].detail
    assert findings["clerk claims"].detail.startswith(
        "missing: Clerk was asked about 1 of the newest 2"
    )
