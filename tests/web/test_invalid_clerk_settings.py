"""Settings with which the Clerk client fails: requests still work."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from pydantic import SecretStr

from app import create_app
from core.config import Config
from core.database import db
from tests.support.apps import UNLIMITED
from tests.support.clerk_server import Clerk, run_clerk
from tests.support.users import ALICE

# Settings that the validation refuses; the client may fail with others in the same way.
INVALID_SETTINGS: list[dict[str, object]] = [
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
    with run_clerk(tmp_path_factory.mktemp("clerk")) as clerk:
        yield clerk


@pytest.fixture(scope="module")
def url(copy_database: Callable[[str], str]) -> str:
    return copy_database("strange_provider")


@pytest.fixture(params=INVALID_SETTINGS, ids=lambda invalid: ascii(invalid)[:50])
def app(request: pytest.FixtureRequest, tmp_path: Path, url: str, clerk: Clerk) -> Iterator[Flask]:
    """An app with one invalid setting, which bypasses the validation."""
    clerk_settings = {name.lower(): value for name, value in clerk.settings.items()}
    values = {"instance_path": tmp_path, "database_url": url, **UNLIMITED, **clerk_settings}
    app = create_app(Config.model_validate(values).model_copy(update=request.param))
    with app.app_context():
        yield app
        db.engine.dispose()


def test_user_signs_in_with_the_claims_of_the_token(app: Flask, clerk: Clerk) -> None:
    response = app.test_client().post("/api/auth/ensure", headers=clerk.bearer(ALICE))

    assert response.status_code in (200, 201)


def test_logout_succeeds(app: Flask, clerk: Clerk) -> None:
    client = app.test_client()
    cookies = f"__session={clerk.token(ALICE)}; __client_uat=1"

    response = client.post("/logout", headers={"Cookie": cookies, "Origin": "http://localhost"})

    assert response.status_code == 303
