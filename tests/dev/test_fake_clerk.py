"""The development identity provider: the app verifies its tokens in the same way as Clerk's."""

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
def provider(folder: Path) -> DevIdentityProvider:
    """One provider for the module, because its key is slow to generate; users differ by id."""
    return DevIdentityProvider(folder)


def verifier_of(provider: DevIdentityProvider) -> TokenVerifier:
    return TokenVerifier(KeySet(provider.key_set), ISSUER)


@pytest.mark.parametrize(
    ("user", "expected"),
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
def test_token_is_accepted_and_contains_the_user(
    provider: DevIdentityProvider, user: DevUser, expected: Identity
) -> None:
    claims = verifier_of(provider).verify(provider.token(user))

    assert identity_from_claims(claims) == expected


def test_token_expires_after_its_lifetime(provider: DevIdentityProvider) -> None:
    expired = provider.token(BOB, lifetime_seconds=-60)

    with pytest.raises(InvalidTokenError, match="session-token-expired"):
        verifier_of(provider).verify(expired)


def test_providers_with_one_folder_share_the_key(
    provider: DevIdentityProvider, folder: Path
) -> None:
    second = DevIdentityProvider(folder)

    assert second.key_set() == provider.key_set()
    assert second.secret_key == provider.secret_key


def test_token_of_a_provider_with_another_folder_is_refused(
    provider: DevIdentityProvider, tmp_path: Path
) -> None:
    other = DevIdentityProvider(tmp_path)

    assert other.secret_key != provider.secret_key
    with pytest.raises(InvalidTokenError):
        verifier_of(provider).verify(other.token(BOB))


def test_private_key_is_not_published(provider: DevIdentityProvider, folder: Path) -> None:
    (key,) = provider.key_set()["keys"]

    assert key.keys() == {"kty", "key_ops", "n", "e", "kid", "use", "alg"}
    assert S_IMODE((folder / "signing_key.pem").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "clerk_id", ["user_bia", "../../etc/passwd", "", "a/b\x00c", "\ud800", "é" * 900], ids=ascii
)
def test_added_user_is_found(provider: DevIdentityProvider, clerk_id: str) -> None:
    user = DevUser(clerk_id, "Bia", "bia@example.com", email_verified=False, image_url=IMAGE)

    provider.add_user(user)

    assert provider.find(clerk_id) == user


def test_id_with_a_path_writes_nothing_outside_the_folder(tmp_path: Path) -> None:
    provider = DevIdentityProvider(tmp_path / "inner")

    provider.add_user(DevUser("../../outside"))

    assert [path.name for path in tmp_path.iterdir()] == ["inner"]
    assert len(list((tmp_path / "inner" / "people").iterdir())) == 1


def test_user_added_again_replaces_the_old_one(provider: DevIdentityProvider) -> None:
    provider.add_user(DevUser("user_again", "Old Name"))
    provider.add_user(DevUser("user_again", "New Name"))

    assert provider.find("user_again") == DevUser("user_again", "New Name")


def test_added_user_gets_a_token(provider: DevIdentityProvider) -> None:
    token = provider.add_user(ALICE)

    assert verifier_of(provider).verify(token).subject == ALICE.clerk_id


def test_unknown_user_is_not_found(provider: DevIdentityProvider) -> None:
    assert provider.find("user_never") is None


@pytest.mark.parametrize("key", [role.key for role in DEMO_USERS])
def test_each_demo_user_can_sign_in(provider: DevIdentityProvider, key: str) -> None:
    user = demo_user(key)

    assert user is not None
    assert verifier_of(provider).verify(provider.token(user)).subject == user.clerk_id


def test_unknown_demo_key_is_no_user() -> None:
    assert demo_user("nobody") is None


def test_demo_users_have_different_ids() -> None:
    ids = {user.clerk_id for role in DEMO_USERS if (user := demo_user(role.key))}

    assert len(ids) == len({role.key for role in DEMO_USERS}) == len(DEMO_USERS)


def test_returning_demo_user_is_the_same_user() -> None:
    assert demo_user("recorrente") == demo_user("recorrente")


def test_new_demo_user_is_a_different_user_each_time() -> None:
    users = [demo_user("nova") for _ in range(2)]

    ids = {user.clerk_id for user in users if user}
    emails = {user.email for user in users if user}
    assert (len(ids), len(emails)) == (2, 2)


@pytest.mark.parametrize(
    ("email", "pattern"),
    [
        ("bia.{tag}@example.com", r"bia\.[0-9a-f]+@example\.com"),
        ("bia@example.com", r"bia@example\.com"),
        (None, "None"),
    ],
)
def test_new_demo_user_keeps_name_address_and_image(email: str | None, pattern: str) -> None:
    user = new_demo_user(DevUser("", "Bia", email, image_url=IMAGE))

    assert re.fullmatch(pattern, str(user.email))
    assert (user.name, user.image_url, bool(user.clerk_id)) == ("Bia", IMAGE, True)


def test_user_document_has_the_form_of_clerk() -> None:
    document = clerk_user(replace(ALICE, name="Alice do Prado", image_url=IMAGE))

    assert document == ALICE_AT_CLERK


def test_unverified_address_is_unverified_in_the_document() -> None:
    (address,) = clerk_user(replace(BOB, email_verified=False))["email_addresses"]

    assert address["verification"] == {"status": "unverified"}


@pytest.mark.parametrize(
    ("name", "parts"), [("Bia", ("Bia", None)), (None, (None, None)), ("", (None, None))]
)
def test_missing_parts_of_a_name_are_null(name: str | None, parts: tuple[str | None, ...]) -> None:
    user = clerk_user(DevUser("user_bia", name))

    assert (user["first_name"], user["last_name"]) == parts


def test_user_without_address_has_no_primary_address() -> None:
    user = clerk_user(DevUser("user_bia"))

    assert (user["primary_email_address_id"], user["email_addresses"]) == (None, [])
