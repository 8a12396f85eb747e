"""What browsers are told to refuse, on every answer."""

from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from blueprints.headers import HEADERS
from config import Config
from tests.cast import BOB
from tests.fixtures import Browser

KEYS = {
    "clerk_publishable_key": "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k",  # of clerk.example.com
    "clerk_secret_key": "sk_live_x",
    "secret_key": "x" * 32,
    "database_url": "postgresql://127.0.0.1:1/none",
}


def policy_of(client: FlaskClient, path: str) -> dict[str, str]:
    header = client.get(path).headers["Content-Security-Policy"]
    return dict(part.split(" ", 1) for part in header.split("; "))


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """The app as strangers meet it."""
    folder = tmp_path_factory.mktemp("production")
    config = Config.model_validate({"app_env": "production", "instance_path": folder, **KEYS})
    return create_app(config).test_client()


def test_every_route_answers_with_the_headers(app: Flask, client: FlaskClient) -> None:
    paths = [rule.rule for rule in app.url_map.iter_rules() if not rule.arguments]

    for path in [*paths, "/nada", "/api/nada", "/static/theme.css"]:
        with client.get(path) as answer:
            sent = answer.headers
        assert {name: sent.get(name) for name in HEADERS} == HEADERS, path
        assert "default-src 'none'" in sent["Content-Security-Policy"], path


@pytest.mark.parametrize("directive", ["script-src", "style-src", "connect-src"])
def test_code_and_styles_come_from_here_alone(client: FlaskClient, directive: str) -> None:
    assert policy_of(client, "/nada")[directive] == "'self'"


def test_nobody_may_frame_us_but_for_the_renewal_of_a_session(browser_of: Browser) -> None:
    browser = browser_of(BOB)

    ancestors = [policy_of(browser, p)["frame-ancestors"] for p in ("/dashboard", "/session")]

    assert ancestors == ["'none'", "'self'"]


def test_forms_and_frames_may_lead_to_clerk(production: FlaskClient) -> None:
    policy = policy_of(production, "/nada")

    ours = "'self' https://accounts.example.com https://clerk.example.com"
    assert (policy["form-action"], policy["frame-src"]) == (ours, ours)


def test_production_insists_on_encryption(production: FlaskClient, client: FlaskClient) -> None:
    told = [c.get("/nada").headers.get("Strict-Transport-Security") for c in (production, client)]

    assert told == ["max-age=31536000", None]


def test_templates_hold_no_inline_code_or_style() -> None:
    pages = {p.name: p.read_text() for p in Path("templates").glob("*.html")}
    inline = ("style=", "<style", "onclick", "javascript:", "|safe", "| safe")

    assert [name for name, page in pages.items() if any(word in page for word in inline)] == []
    assert all('<script type="module" src=' in p for p in pages.values() if "<script" in p)
