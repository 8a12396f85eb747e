"""The claims of a verified token become an identity; missing or unusable claims stay unknown."""

from datetime import UTC, datetime

import pytest

from auth.identity import Identity
from auth.tokens import SessionClaims, identity_from_claims


def identity_of_claims(**claims: object) -> Identity:
    return identity_from_claims(SessionClaims("user_bia", claims))


def test_every_claim_is_used() -> None:
    image = "https://img.example.com/bia.png"

    identity = identity_of_claims(
        name="Bia Nunes", email="bia@example.com", email_verified=True, image_url=image
    )

    assert identity == Identity(
        "user_bia", "Bia Nunes", "bia@example.com", True, image, is_complete=True
    )


def test_missing_claims_are_unknown() -> None:
    assert identity_of_claims() == Identity("user_bia")


@pytest.mark.parametrize(
    "verified", [False, None, "true", "True", 1, 1.0, "1", [True], {"verified": True}], ids=repr
)
def test_only_the_boolean_true_verifies_an_address(verified: object) -> None:
    identity = identity_of_claims(email="dona@example.com", email_verified=verified)

    assert identity.email_verified is False


def test_verification_of_an_address_without_that_claim_is_unknown() -> None:
    identity = identity_of_claims(email="dona@example.com")

    assert (identity.email, identity.email_verified) == ("dona@example.com", None)


@pytest.mark.parametrize("email", [None, "", "bia", "bia@x@y", "bia\x00@example.com", 7, ["b@c"]])
def test_verification_of_an_unusable_address_is_unknown(email: object) -> None:
    identity = identity_of_claims(email=email, email_verified=True)

    assert (identity.email, identity.email_verified) == (None, None)


@pytest.mark.parametrize("missing", ["name", "email", "email_verified"])
def test_identity_with_a_missing_claim_is_not_complete(missing: str) -> None:
    claims = {"name": "Bia Nunes", "email": "bia@example.com", "email_verified": False}
    del claims[missing]

    assert not identity_of_claims(**claims).is_complete


def test_time_of_the_identity_is_the_iat_claim() -> None:
    assert identity_of_claims(iat=1_773_144_000).as_of == datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("claim", ["name", "image_url"])
@pytest.mark.parametrize("value", [None, "", 7, ["x"], "\x00"], ids=repr)
def test_unusable_claim_is_unknown(claim: str, value: object) -> None:
    assert identity_of_claims(**{claim: value}) == Identity("user_bia")


def test_long_name_is_cut_and_long_image_url_dropped() -> None:
    identity = identity_of_claims(
        name="b" * 2000, image_url="https://img.example.com/" + "b" * 2000
    )

    assert (identity.name, identity.image_url) == ("b" * 255, None)
