"""A key or an address with which the provider's client fails: unavailable, never an error."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from pydantic import SecretStr

from app import create_app
from core.config import Config
from core.database import db
from dev.databases import UNLIMITED
from tests.support.clerk_server import Clerk, clerk_in
from tests.support.users import ALICE

# Settings that the check of settings refuses; a client may fail at others in the same way.
STRANGE: list[dict[str, object]] = [
    {"clerk_secret_key": SecretStr("sk_live_…")},
    {"clerk_secret_key": SecretStr("sk_test_a\nb")},
    {"clerk_secret_key": SecretStr("sk_test_\udcff")},
    {"clerk_api_url": "http://127.0.0.1:99999999"},
    {"clerk_api_url": "http://[::1"},
    {"clerk_api_url": "http://" + "a" * 300},
    {"clerk_api_url": "nonsense"},
    {"clerk_api_url": ""},
]


@pytest.fixture(scope="module")
def clerk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clerk]:
    with clerk_in(tmp_path_factory.mktemp("clerk")) as clerk:
        yield clerk


@pytest.fixture(scope="module")
def url(copy_database: Callable[[str], str]) -> str:
    return copy_database("strange_provider")


@pytest.fixture(params=STRANGE, ids=lambda strange: ascii(strange)[:50])
def app(request: pytest.FixtureRequest, tmp_path: Path, url: str, clerk: Clerk) -> Iterator[Flask]:
    """An app with one strange setting, past the check of settings."""
    given = {name.lower(): value for name, value in clerk.settings.items()}
    values = {"instance_path": tmp_path, "database_url": url, **UNLIMITED, **given}
    app = create_app(Config.model_validate(values).model_copy(update=request.param))
    with app.app_context():
        yield app
        db.engine.dispose()


def test_users_sign_in_with_what_their_token_says(app: Flask, clerk: Clerk) -> None:
    answer = app.test_client().post("/api/auth/ensure", headers=clerk.bearer(ALICE))

    assert answer.status_code in (200, 201)


def test_sign_out_works(app: Flask, clerk: Clerk) -> None:
    client = app.test_client()
    cookies = f"__session={clerk.token(ALICE)}; __client_uat=1"

    answer = client.post("/logout", headers={"Cookie": cookies, "Origin": "http://localhost"})

    assert answer.status_code == 303
