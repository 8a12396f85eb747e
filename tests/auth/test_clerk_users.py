"""Clerk's user document: which fields are used, and which stay unknown."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from auth.clerk_users import parse_clerk_user, parse_clerk_user_id
from auth.errors import UnreadableProfileError
from auth.identity import Identity
from tests.support.users import ALICE, BOB, NOW

IMAGE = "https://img.example.com/bob.png"
VERIFIED = {"status": "verified", "strategy": "email_code"}
PRIMARY = {"id": "idn_1", "email_address": BOB.email, "verification": VERIFIED}
OTHER_ADDRESS = {"id": "idn_2", "email_address": ALICE.email, "verification": VERIFIED}
NO_NAME = {"first_name": None, "last_name": None, "username": None}
USER: dict[str, Any] = {
    "object": "user",
    "id": BOB.clerk_id,
    "first_name": "Bob",
    "last_name": "Lima",
    "username": "bob",
    "image_url": IMAGE,
    "primary_email_address_id": "idn_1",
    "email_addresses": [PRIMARY],
    "external_accounts": [{"provider": "oauth_google"}],
    "updated_at": int(NOW.timestamp() * 1000),
}
BOB_AT_CLERK = Identity(
    BOB.clerk_id, BOB.name, BOB.email, True, IMAGE, login_method="google", is_complete=True
)


def with_address(**changes: object) -> dict[str, Any]:
    """The user document with a changed primary address."""
    return {**USER, "email_addresses": [PRIMARY | changes]}


def test_full_document_becomes_a_complete_identity() -> None:
    assert parse_clerk_user(USER) == BOB_AT_CLERK


def test_unknown_field_is_ignored() -> None:
    user = {**with_address(reserved=False), "passkeys": [7], "banned": "maybe"}

    assert parse_clerk_user(user) == BOB_AT_CLERK


def test_document_with_an_id_only_has_no_verified_address() -> None:
    nothing_else = Identity(BOB.clerk_id, email_verified=False, is_complete=True)

    assert parse_clerk_user({"id": BOB.clerk_id}) == nothing_else


def test_null_equals_a_missing_field() -> None:
    nulls = dict.fromkeys(USER) | {"id": BOB.clerk_id}

    assert parse_clerk_user(nulls) == parse_clerk_user({"id": BOB.clerk_id})


def test_only_the_primary_address_is_used() -> None:
    unproven = PRIMARY | {"verification": {"status": "unverified"}}

    identity = parse_clerk_user(
        {**USER, "email_addresses": [OTHER_ADDRESS, unproven, OTHER_ADDRESS]}
    )

    assert (identity.email, identity.email_verified) == (BOB.email, False)


@pytest.mark.parametrize(
    "address",
    [
        "bob\u200b@example.com",
        "mailto:bob@example.com",
        "bob@example.com;",
        "bob @example.com",
        "b",
    ],
    ids=ascii,
)
def test_unverifiable_address_counts_as_no_address(address: str) -> None:
    identity = parse_clerk_user(with_address(email_address=address))

    assert (identity.email, identity.email_verified, identity.is_complete) == (None, False, True)


@pytest.mark.parametrize("primary_id", [None, ""], ids=repr)
def test_other_address_does_not_replace_a_missing_primary_one(primary_id: str | None) -> None:
    addresses = [OTHER_ADDRESS, PRIMARY, PRIMARY | {"id": None}, PRIMARY | {"id": ""}]

    identity = parse_clerk_user(
        USER | {"primary_email_address_id": primary_id, "email_addresses": addresses}
    )

    assert (identity.email, identity.email_verified) == (None, False)


@pytest.mark.parametrize(
    "status", ["unverified", "expired", "failed", "transferable", "Verified", "", None], ids=repr
)
def test_only_the_status_verified_verifies_an_address(status: str | None) -> None:
    identity = parse_clerk_user(with_address(verification={"status": status}))

    assert (identity.email, identity.email_verified) == (BOB.email, False)


@pytest.mark.parametrize("verification", [None, {}, {"strategy": "email_code"}], ids=str)
def test_address_without_verification_status_is_not_verified(verification: object) -> None:
    assert parse_clerk_user(with_address(verification=verification)).email_verified is False


@pytest.mark.parametrize(
    "email", [None, "", "bob", "bob@", "b" * 310 + "@example.com"], ids=lambda e: str(e)[:9]
)
def test_unusable_address_is_never_verified(email: str | None) -> None:
    identity = parse_clerk_user(with_address(email_address=email))

    assert (identity.email, identity.email_verified) == (None, False)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"first_name": "Bob", "last_name": "Lima", "username": "bob"}, "Bob Lima"),
        ({"first_name": "Bob"}, "Bob"),
        ({"last_name": "Lima", "username": "bob"}, "Lima"),
        ({"first_name": "", "last_name": "", "username": "bob"}, "bob"),
        ({"first_name": " Bob ", "last_name": "\x00Lima"}, "Bob Lima"),
        ({}, None),
    ],
)
def test_name_is_built_from_both_parts_or_one_or_the_username(
    names: dict[str, str], expected: str | None
) -> None:
    assert parse_clerk_user(USER | NO_NAME | names).name == expected


def test_long_name_and_method_are_cut_and_a_long_image_url_is_dropped() -> None:
    provider = [{"provider": "oauth_" + "g" * 99}]
    long = {"first_name": "B" * 400, "image_url": IMAGE + "x" * 500, "external_accounts": provider}

    identity = parse_clerk_user(USER | long)

    assert (identity.name, identity.image_url, identity.login_method) == ("B" * 255, None, "g" * 64)


@pytest.mark.parametrize("url", ["javascript:alert(1)", "//img.example.com/bob.png", ""])
def test_image_is_an_http_url_or_none(url: str) -> None:
    assert parse_clerk_user({**USER, "image_url": url}).image_url is None


@pytest.mark.parametrize(
    ("providers", "expected"),
    [
        (["oauth_google"], "google"),
        (["google"], "google"),
        (["oauth_custom_oauth_x"], "custom_oauth_x"),
        (["oauth_github", "oauth_google"], "github"),
        ([None, "", "oauth_google"], "google"),
    ],
    ids=str,
)
def test_login_method_is_the_first_provider(providers: list[str | None], expected: str) -> None:
    accounts = [{"provider": provider} for provider in providers]

    assert parse_clerk_user({**USER, "external_accounts": accounts}).login_method == expected


@pytest.mark.parametrize("accounts", [None, [], [{}], [{"provider": None}]], ids=str)
def test_login_method_without_provider_is_the_verification_strategy(accounts: object) -> None:
    assert parse_clerk_user({**USER, "external_accounts": accounts}).login_method == "email_code"


@pytest.mark.parametrize(
    "addresses", [None, [], [OTHER_ADDRESS], [PRIMARY | {"id": "idn_9"}]], ids=str
)
@pytest.mark.parametrize("primary_id", ["idn_1", "idn_"])
def test_missing_primary_address_makes_the_document_unreadable(
    primary_id: str, addresses: object
) -> None:
    changes = {"primary_email_address_id": primary_id, "email_addresses": addresses}

    with pytest.raises(UnreadableProfileError):
        parse_clerk_user(USER | changes)


def test_login_method_is_unknown_without_provider_and_verification() -> None:
    user = with_address(verification=None) | {"external_accounts": []}

    assert parse_clerk_user(user).login_method is None


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [
        (USER["updated_at"], NOW),
        (USER["updated_at"] + 250, NOW.replace(microsecond=250_000)),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (None, None),
        (253_402_300_800_000, None),  # the year 10000
        (10**30, None),
        (-(10**30), None),
        (10**400, None),
    ],
    ids=lambda value: str(value)[:15],
)
def test_time_of_the_identity_is_its_last_change(
    milliseconds: int | None, expected: datetime | None
) -> None:
    assert parse_clerk_user({**USER, "updated_at": milliseconds}).as_of == expected


@pytest.mark.parametrize("document", [USER | {"email_addresses": 7}, {"id": "user_bob"}])
def test_id_is_read_from_a_malformed_document(document: dict[str, Any]) -> None:
    assert parse_clerk_user_id(document) == BOB.clerk_id


@pytest.mark.parametrize(
    "document",
    [{}, {"id": None}, {"id": 7}, {"id": ""}, {"id": "\ud800"}, [], None, "x"],
    ids=ascii,
)
def test_document_without_usable_id_is_refused(document: object) -> None:
    with pytest.raises(UnreadableProfileError):
        parse_clerk_user_id(document)


@pytest.mark.parametrize(
    "document",
    [{}, {"id": None}, {"id": 7}, USER | {"email_addresses": "x"}, [], None, "user_bob"],
    ids=lambda document: str(document)[:20],
)
def test_document_that_is_no_user_is_refused(document: object) -> None:
    with pytest.raises(UnreadableProfileError):
        parse_clerk_user(cast(dict[str, Any], document))
