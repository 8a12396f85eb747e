"""The development stand-in: its tokens pass the very check that Clerk's do."""

import re
from dataclasses import replace
from pathlib import Path
from stat import S_IMODE

import pytest

from auth.errors import InvalidTokenError
from auth.identity import Identity
from auth.jwks import KeySet
from auth.tokens import TokenVerifier, identity_from_claims
from dev.fake_clerk import (
    DEMO_USERS,
    ISSUER,
    DevIdentityProvider,
    DevUser,
    clerk_user,
    demo_user,
    new_demo_user,
)
from tests.support.users import ALICE, BOB

IMAGE = "https://img.example.com/alice.png"
ALICE_AT_CLERK = {
    "object": "user",
    "id": ALICE.clerk_id,
    "first_name": "Alice",
    "last_name": "do Prado",
    "image_url": IMAGE,
    "primary_email_address_id": "idn_1",
    "email_addresses": [
        {
            "id": "idn_1",
            "email_address": ALICE.email,
            "verification": {"status": "verified"},
        }
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("identity")


@pytest.fixture(scope="module")
def stand_in(folder: Path) -> DevIdentityProvider:
    """One for the whole module, since its key is slow to make; people are told apart by id."""
    return DevIdentityProvider(folder)


def verifier_of(provider: DevIdentityProvider) -> TokenVerifier:
    return TokenVerifier(KeySet(provider.key_set), ISSUER)


@pytest.mark.parametrize(
    ("person", "expected"),
    [
        (
            replace(ALICE, image_url=IMAGE),
            Identity(ALICE.clerk_id, ALICE.name, ALICE.email, True, IMAGE, is_complete=True),
        ),
        (
            replace(BOB, email_verified=False),
            Identity(BOB.clerk_id, BOB.name, BOB.email, False, is_complete=True),
        ),
        (DevUser("user_nobody"), Identity("user_nobody")),
    ],
    ids=["all claims", "unverified", "no claims"],
)
def test_token_is_accepted_and_speaks_of_the_person(
    stand_in: DevIdentityProvider, person: DevUser, expected: Identity
) -> None:
    claims = verifier_of(stand_in).verify(stand_in.token(person))

    assert identity_from_claims(claims) == expected


def test_token_ends_with_its_lifetime(stand_in: DevIdentityProvider) -> None:
    ended = stand_in.token(BOB, lifetime_seconds=-60)

    with pytest.raises(InvalidTokenError, match="session-token-expired"):
        verifier_of(stand_in).verify(ended)


def test_second_stand_in_on_the_same_folder_has_the_same_key(
    stand_in: DevIdentityProvider, folder: Path
) -> None:
    second = DevIdentityProvider(folder)

    assert second.key_set() == stand_in.key_set()
    assert second.secret_key == stand_in.secret_key


def test_stand_in_on_another_folder_is_a_stranger(
    stand_in: DevIdentityProvider, tmp_path: Path
) -> None:
    stranger = DevIdentityProvider(tmp_path)

    assert stranger.secret_key != stand_in.secret_key
    with pytest.raises(InvalidTokenError):
        verifier_of(stand_in).verify(stranger.token(BOB))


def test_private_key_is_published_by_no_means(stand_in: DevIdentityProvider, folder: Path) -> None:
    (key,) = stand_in.key_set()["keys"]

    assert key.keys() == {"kty", "key_ops", "n", "e", "kid", "use", "alg"}
    assert S_IMODE((folder / "signing_key.pem").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "clerk_id", ["user_bia", "../../etc/passwd", "", "a/b\x00c", "\ud800", "é" * 900], ids=ascii
)
def test_welcomed_person_is_found_again(stand_in: DevIdentityProvider, clerk_id: str) -> None:
    person = DevUser(clerk_id, "Bia", "bia@example.com", email_verified=False, image_url=IMAGE)

    stand_in.add_user(person)

    assert stand_in.find(clerk_id) == person


def test_odd_id_writes_nothing_outside_the_folder(tmp_path: Path) -> None:
    provider = DevIdentityProvider(tmp_path / "inner")

    provider.add_user(DevUser("../../outside"))

    assert [path.name for path in tmp_path.iterdir()] == ["inner"]
    assert len(list((tmp_path / "inner" / "people").iterdir())) == 1


def test_person_who_comes_again_is_known_as_they_are_now(stand_in: DevIdentityProvider) -> None:
    stand_in.add_user(DevUser("user_again", "Old Name"))
    stand_in.add_user(DevUser("user_again", "New Name"))

    assert stand_in.find("user_again") == DevUser("user_again", "New Name")


def test_welcome_signs_the_person_in(stand_in: DevIdentityProvider) -> None:
    token = stand_in.add_user(ALICE)

    assert verifier_of(stand_in).verify(token).subject == ALICE.clerk_id


def test_person_who_never_came_is_not_found(stand_in: DevIdentityProvider) -> None:
    assert stand_in.find("user_never") is None


@pytest.mark.parametrize("key", [role.key for role in DEMO_USERS])
def test_everyone_on_the_sign_in_page_can_sign_in(stand_in: DevIdentityProvider, key: str) -> None:
    person = demo_user(key)

    assert person is not None
    assert verifier_of(stand_in).verify(stand_in.token(person)).subject == person.clerk_id


def test_button_that_is_not_there_stands_for_nobody() -> None:
    assert demo_user("nobody") is None


def test_everyone_on_the_sign_in_page_is_somebody_else() -> None:
    ids = {person.clerk_id for role in DEMO_USERS if (person := demo_user(role.key))}

    assert len(ids) == len({role.key for role in DEMO_USERS}) == len(DEMO_USERS)


def test_same_button_is_the_same_person_again() -> None:
    assert demo_user("recorrente") == demo_user("recorrente")


def test_newcomer_is_another_one_every_time() -> None:
    visits = [demo_user("nova") for _ in range(2)]

    ids = {person.clerk_id for person in visits if person}
    emails = {person.email for person in visits if person}
    assert (len(ids), len(emails)) == (2, 2)


@pytest.mark.parametrize(
    ("email", "pattern"),
    [
        ("bia.{tag}@example.com", r"bia\.[0-9a-f]+@example\.com"),
        ("bia@example.com", r"bia@example\.com"),
        (None, "None"),
    ],
)
def test_newcomer_keeps_the_description(email: str | None, pattern: str) -> None:
    person = new_demo_user(DevUser("", "Bia", email, image_url=IMAGE))

    assert re.fullmatch(pattern, str(person.email))
    assert (person.name, person.image_url, bool(person.clerk_id)) == ("Bia", IMAGE, True)


def test_person_is_described_as_clerk_does() -> None:
    described = clerk_user(replace(ALICE, name="Alice do Prado", image_url=IMAGE))

    assert described == ALICE_AT_CLERK


def test_unverified_address_is_described_as_such() -> None:
    (address,) = clerk_user(replace(BOB, email_verified=False))["email_addresses"]

    assert address["verification"] == {"status": "unverified"}


@pytest.mark.parametrize(
    ("name", "parts"), [("Bia", ("Bia", None)), (None, (None, None)), ("", (None, None))]
)
def test_missing_parts_of_a_name_are_null(name: str | None, parts: tuple[str | None, ...]) -> None:
    user = clerk_user(DevUser("user_bia", name))

    assert (user["first_name"], user["last_name"]) == parts


def test_person_without_address_has_no_primary_one() -> None:
    user = clerk_user(DevUser("user_bia"))

    assert (user["primary_email_address_id"], user["email_addresses"]) == (None, [])
