"""Who a verified token speaks of: what it says is believed to the letter, the rest not known."""

from datetime import UTC, datetime

import pytest

from auth.identity import Identity
from auth.tokens import SessionClaims, identity_from_claims


def speaks_of(**claims: object) -> Identity:
    return identity_from_claims(SessionClaims("user_bia", claims))


def test_every_claim_is_taken_over() -> None:
    image = "https://img.example.com/bia.png"

    person = speaks_of(
        name="Bia Nunes", email="bia@example.com", email_verified=True, image_url=image
    )

    assert person == Identity(
        "user_bia", "Bia Nunes", "bia@example.com", True, image, is_complete=True
    )


def test_missing_claims_are_not_known() -> None:
    assert speaks_of() == Identity("user_bia")


@pytest.mark.parametrize(
    "verdict", [False, None, "true", "True", 1, 1.0, "1", [True], {"verified": True}], ids=repr
)
def test_only_the_boolean_true_verifies_an_address(verdict: object) -> None:
    person = speaks_of(email="dona@example.com", email_verified=verdict)

    assert person.email_verified is False


def test_address_without_a_verdict_is_known_but_not_its_verification() -> None:
    person = speaks_of(email="dona@example.com")

    assert (person.email, person.email_verified) == ("dona@example.com", None)


@pytest.mark.parametrize("email", [None, "", "bia", "bia@x@y", "bia\x00@example.com", 7, ["b@c"]])
def test_verdict_on_an_unusable_address_is_not_known_either(email: object) -> None:
    person = speaks_of(email=email, email_verified=True)

    assert (person.email, person.email_verified) == (None, None)


@pytest.mark.parametrize("missing", ["name", "email", "email_verified"])
def test_token_that_leaves_something_out_is_not_the_whole_story(missing: str) -> None:
    claims = {"name": "Bia Nunes", "email": "bia@example.com", "email_verified": False}
    del claims[missing]

    assert not speaks_of(**claims).is_complete


def test_token_speaks_of_the_moment_it_was_written() -> None:
    assert speaks_of(iat=1_773_144_000).as_of == datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("claim", ["name", "image_url"])
@pytest.mark.parametrize("value", [None, "", 7, ["x"], "\x00"], ids=repr)
def test_unusable_claim_is_not_known(claim: str, value: object) -> None:
    assert speaks_of(**{claim: value}) == Identity("user_bia")


def test_long_name_is_cut_and_long_image_address_dropped() -> None:
    person = speaks_of(name="b" * 2000, image_url="https://img.example.com/" + "b" * 2000)

    assert (person.name, person.image_url) == ("b" * 255, None)
