"""Names and constants equal those of Clerk's JavaScript package."""

import enum
import json
from typing import Any

import pytest

from auth import cookies, handshake, jwks, tokens
from auth.errors import AuthReason, RefreshReason, TokenReason
from scripts import clerk_constants

EXTRACT: dict[str, Any] = json.loads(clerk_constants.EXTRACT.read_text())
CLERK: dict[str, Any] = EXTRACT["constants"]


@pytest.mark.parametrize(
    ("reasons", "name"),
    [
        (AuthReason, "AuthErrorReason"),
        (TokenReason, "TokenVerificationErrorReason"),
        (RefreshReason, "RefreshTokenErrorReason"),
    ],
)
def test_each_reason_is_one_of_clerk(reasons: type[enum.StrEnum], name: str) -> None:
    assert {str(reason) for reason in reasons} <= set(CLERK[name].values())


def test_cookies_have_the_names_of_clerk() -> None:
    ours = {
        "Session": cookies.SESSION,
        "Refresh": cookies.REFRESH,
        "ClientUat": cookies.CLIENT_UAT,
        "DevBrowser": cookies.DEV_BROWSER,
        "Handshake": cookies.HANDSHAKE,
        "HandshakeNonce": cookies.NONCE,
        "RedirectCount": handshake.REDIRECT_COUNT,
    }

    assert ours == CLERK["Cookies"]


def test_all_parameters_of_clerk_are_removed_from_the_url() -> None:
    names = CLERK["QueryParameters"]
    returned = {"DevBrowser", "Handshake", "HandshakeHelp", "LegacyDevBrowser", "HandshakeNonce"}

    assert {names[name] for name in returned} == cookies.CLERK_PARAMETERS


def test_versions_classes_and_ages_are_those_of_clerk() -> None:
    categories = {CLERK["JWT_CATEGORY_SESSION_TOKEN"], CLERK["JWT_CATEGORY_IGNORE"]}

    assert CLERK["SUPPORTED_BAPI_VERSION"] == handshake.API_VERSION
    assert tokens.SESSION_CATEGORIES - {None} == categories
    assert CLERK["M2M_SUBJECT_PREFIX"] == tokens.MACHINE_SUBJECT_PREFIX
    assert CLERK["MAX_CACHE_LAST_UPDATED_AT_SECONDS"] == jwks.MAX_AGE_SECONDS
