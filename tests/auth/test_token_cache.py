"""A token that was checked before is not checked again; its time and its key are."""

from typing import Any

import pytest
from jwt.algorithms import RSAAlgorithm

from auth.errors import InvalidTokenError, UntimelyTokenError
from auth.jwks import REFETCH_COOLDOWN_SECONDS, KeySet
from auth.tokens import LEEWAY_SECONDS, TokenVerifier
from tests.auth.test_tokens import ISSUER, KID, NOW, StoppedClock, key_of, token
from tests.support.concurrency import Clock

LIFETIME_SECONDS = 60


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jwt.api_jwt.datetime", StoppedClock)


@pytest.fixture
def time_of_day() -> Clock:
    """The one by which tokens end."""
    clock = Clock()
    clock.seconds = float(NOW)
    return clock


@pytest.fixture
def published() -> dict[str, Any]:
    """What the issuer publishes, by key id; tests change it."""
    return {KID: public_half_of("issuer")}


@pytest.fixture
def uptime() -> Clock:
    """The one by which keys are asked for."""
    return Clock()


@pytest.fixture
def verifier(published: dict[str, Any], time_of_day: Clock, uptime: Clock) -> TokenVerifier:
    def publish() -> dict[str, Any]:
        return {"keys": [{**key, "kid": kid} for kid, key in published.items()]}

    return TokenVerifier(KeySet(publish, uptime), ISSUER, clock=time_of_day)


def public_half_of(owner: str) -> dict[str, Any]:
    return RSAAlgorithm.to_jwk(key_of(owner).public_key(), as_dict=True)


def let_keys_be_fetched_anew(verifier: TokenVerifier, uptime: Clock) -> None:
    """Bring a token under a key that is not known yet."""
    uptime.seconds += REFETCH_COOLDOWN_SECONDS
    with pytest.raises(InvalidTokenError, match="unknown key id"):
        verifier.verify(token(kid="ins_unheard_of"))


def test_token_is_checked_once(verifier: TokenVerifier) -> None:
    good = token()

    assert verifier.verify(good) is verifier.verify(str(good.encode(), "ascii"))


def test_known_token_ends_in_time(verifier: TokenVerifier, time_of_day: Clock) -> None:
    verifier.verify(token())

    time_of_day.seconds += LIFETIME_SECONDS + LEEWAY_SECONDS
    with pytest.raises(UntimelyTokenError, match="session-token-expired"):
        verifier.verify(token())


def test_known_token_holds_until_its_time(verifier: TokenVerifier, time_of_day: Clock) -> None:
    verifier.verify(token())

    time_of_day.seconds += LIFETIME_SECONDS + LEEWAY_SECONDS - 0.01
    assert verifier.verify(token()).subject == "user_1"


def test_token_with_another_ending_is_another_token(verifier: TokenVerifier) -> None:
    good = token()
    verifier.verify(good)

    with pytest.raises(InvalidTokenError, match="InvalidSignatureError"):
        verifier.verify(good[:-4] + "AAAA")


def test_known_token_ends_with_its_key(
    verifier: TokenVerifier, published: dict[str, Any], uptime: Clock
) -> None:
    verifier.verify(token())

    published["ins_2"] = published.pop(KID)
    let_keys_be_fetched_anew(verifier, uptime)

    with pytest.raises(InvalidTokenError, match="unknown key id"):
        verifier.verify(token())


def test_known_token_is_checked_by_the_new_key_of_its_id(
    verifier: TokenVerifier, published: dict[str, Any], uptime: Clock
) -> None:
    verifier.verify(token())

    published[KID] = public_half_of("stranger")
    let_keys_be_fetched_anew(verifier, uptime)

    with pytest.raises(InvalidTokenError, match="InvalidSignatureError"):
        verifier.verify(token())


def test_known_token_outlives_a_fetch_of_the_same_keys(
    verifier: TokenVerifier, uptime: Clock
) -> None:
    good = token()
    verifier.verify(good)
    let_keys_be_fetched_anew(verifier, uptime)

    again = verifier.verify(good)

    assert verifier.verify(good) is again
