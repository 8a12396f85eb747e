"""A verified token is not verified again; its expiry and its key are checked each time."""

from typing import Any

import pytest
from jwt.algorithms import RSAAlgorithm

from auth.errors import InvalidTokenError, TokenTimeError
from auth.jwks import REFETCH_COOLDOWN_SECONDS, KeySet
from auth.tokens import LEEWAY_SECONDS, TokenVerifier
from tests.support.concurrency import Clock
from tests.support.session_tokens import ISSUER, KID, NOW, key_of, token

pytestmark = pytest.mark.usefixtures("stopped_clock")

LIFETIME_SECONDS = 60


@pytest.fixture
def time_of_day() -> Clock:
    """The clock by which tokens expire."""
    clock = Clock()
    clock.seconds = float(NOW)
    return clock


@pytest.fixture
def published() -> dict[str, Any]:
    """The published keys by key id; tests change them."""
    return {KID: public_jwk_of("issuer")}


@pytest.fixture
def uptime() -> Clock:
    """The clock by which keys are fetched."""
    return Clock()


@pytest.fixture
def verifier(published: dict[str, Any], time_of_day: Clock, uptime: Clock) -> TokenVerifier:
    def publish() -> dict[str, Any]:
        return {"keys": [{**key, "kid": kid} for kid, key in published.items()]}

    return TokenVerifier(KeySet(publish, uptime), ISSUER, clock=time_of_day)


def public_jwk_of(owner: str) -> dict[str, Any]:
    return RSAAlgorithm.to_jwk(key_of(owner).public_key(), as_dict=True)


def fetch_keys_again(verifier: TokenVerifier, uptime: Clock) -> None:
    """Cause a fetch of the keys with a token of an unknown key."""
    uptime.seconds += REFETCH_COOLDOWN_SECONDS
    with pytest.raises(InvalidTokenError, match="unknown key id"):
        verifier.verify(token(kid="ins_unknown"))


def test_token_is_verified_once(verifier: TokenVerifier) -> None:
    session_token = token()

    assert verifier.verify(session_token) is verifier.verify(str(session_token.encode(), "ascii"))


def test_cached_token_expires(verifier: TokenVerifier, time_of_day: Clock) -> None:
    verifier.verify(token())

    time_of_day.seconds += LIFETIME_SECONDS + LEEWAY_SECONDS
    with pytest.raises(TokenTimeError, match="session-token-expired"):
        verifier.verify(token())


def test_cached_token_is_valid_until_its_expiry(
    verifier: TokenVerifier, time_of_day: Clock
) -> None:
    verifier.verify(token())

    time_of_day.seconds += LIFETIME_SECONDS + LEEWAY_SECONDS - 0.01
    assert verifier.verify(token()).subject == "user_1"


def test_token_with_another_signature_is_verified(verifier: TokenVerifier) -> None:
    session_token = token()
    verifier.verify(session_token)

    with pytest.raises(InvalidTokenError, match="InvalidSignatureError"):
        verifier.verify(session_token[:-4] + "AAAA")


def test_cached_token_is_invalid_without_its_key(
    verifier: TokenVerifier, published: dict[str, Any], uptime: Clock
) -> None:
    verifier.verify(token())

    published["ins_2"] = published.pop(KID)
    fetch_keys_again(verifier, uptime)

    with pytest.raises(InvalidTokenError, match="unknown key id"):
        verifier.verify(token())


def test_cached_token_is_verified_with_the_new_key_of_its_id(
    verifier: TokenVerifier, published: dict[str, Any], uptime: Clock
) -> None:
    verifier.verify(token())

    published[KID] = public_jwk_of("other")
    fetch_keys_again(verifier, uptime)

    with pytest.raises(InvalidTokenError, match="InvalidSignatureError"):
        verifier.verify(token())


def test_cached_token_survives_a_fetch_of_the_same_keys(
    verifier: TokenVerifier, uptime: Clock
) -> None:
    session_token = token()
    verifier.verify(session_token)
    fetch_keys_again(verifier, uptime)

    second_result = verifier.verify(session_token)

    assert verifier.verify(session_token) is second_result
