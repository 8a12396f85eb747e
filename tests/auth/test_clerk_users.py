"""Clerk's description of a user: what of it is believed, and what stays unknown."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from auth.clerk_users import parse_clerk_user, parse_clerk_user_id
from auth.errors import UnreadableProfileError
from auth.identity import Identity
from tests.support.users import ALICE, BOB, NOW

IMAGE = "https://img.example.com/bob.png"
PROOF = {"status": "verified", "strategy": "email_code"}
PRIMARY = {"id": "idn_1", "email_address": BOB.email, "verification": PROOF}
OTHER = {"id": "idn_2", "email_address": ALICE.email, "verification": PROOF}
NAMELESS = {"first_name": None, "last_name": None, "username": None}
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
    """The user, with another primary address."""
    return {**USER, "email_addresses": [PRIMARY | changes]}


def test_user_is_read_and_is_all_there_is_to_know() -> None:
    assert parse_clerk_user(USER) == BOB_AT_CLERK


def test_field_that_we_do_not_know_changes_nothing() -> None:
    user = {**with_address(reserved=False), "passkeys": [7], "banned": "maybe"}

    assert parse_clerk_user(user) == BOB_AT_CLERK


def test_id_alone_describes_a_user_without_a_verified_address() -> None:
    nothing_else = Identity(BOB.clerk_id, email_verified=False, is_complete=True)

    assert parse_clerk_user({"id": BOB.clerk_id}) == nothing_else


def test_null_says_the_same_as_silence() -> None:
    nulls = dict.fromkeys(USER) | {"id": BOB.clerk_id}

    assert parse_clerk_user(nulls) == parse_clerk_user({"id": BOB.clerk_id})


def test_only_the_primary_address_counts() -> None:
    unproven = PRIMARY | {"verification": {"status": "unverified"}}

    who = parse_clerk_user({**USER, "email_addresses": [OTHER, unproven, OTHER]})

    assert (who.email, who.email_verified) == (BOB.email, False)


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
    who = parse_clerk_user(with_address(email_address=address))

    assert (who.email, who.email_verified, who.is_complete) == (None, False, True)


@pytest.mark.parametrize("primary_id", [None, ""], ids=repr)
def test_no_address_stands_in_for_a_primary_one(primary_id: str | None) -> None:
    addresses = [OTHER, PRIMARY, PRIMARY | {"id": None}, PRIMARY | {"id": ""}]

    who = parse_clerk_user(
        USER | {"primary_email_address_id": primary_id, "email_addresses": addresses}
    )

    assert (who.email, who.email_verified) == (None, False)


@pytest.mark.parametrize(
    "status", ["unverified", "expired", "failed", "transferable", "Verified", "", None], ids=repr
)
def test_no_status_but_verified_proves_an_address(status: str | None) -> None:
    who = parse_clerk_user(with_address(verification={"status": status}))

    assert (who.email, who.email_verified) == (BOB.email, False)


@pytest.mark.parametrize("verification", [None, {}, {"strategy": "email_code"}], ids=str)
def test_address_is_not_verified_where_nothing_says_so(verification: object) -> None:
    assert parse_clerk_user(with_address(verification=verification)).email_verified is False


@pytest.mark.parametrize(
    "email", [None, "", "bob", "bob@", "b" * 310 + "@example.com"], ids=lambda e: str(e)[:9]
)
def test_address_that_is_none_takes_its_verdict_along(email: str | None) -> None:
    who = parse_clerk_user(with_address(email_address=email))

    assert (who.email, who.email_verified) == (None, False)


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
def test_name_is_both_parts_or_one_or_the_username(
    names: dict[str, str], expected: str | None
) -> None:
    assert parse_clerk_user(USER | NAMELESS | names).name == expected


def test_long_name_and_method_are_cut_and_a_long_address_is_dropped() -> None:
    provider = [{"provider": "oauth_" + "g" * 99}]
    long = {"first_name": "B" * 400, "image_url": IMAGE + "x" * 500, "external_accounts": provider}

    who = parse_clerk_user(USER | long)

    assert (who.name, who.image_url, who.login_method) == ("B" * 255, None, "g" * 64)


@pytest.mark.parametrize("url", ["javascript:alert(1)", "//img.example.com/bob.png", ""])
def test_image_is_a_web_address_or_not_known(url: str) -> None:
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
def test_method_is_the_first_provider(providers: list[str | None], expected: str) -> None:
    accounts = [{"provider": provider} for provider in providers]

    assert parse_clerk_user({**USER, "external_accounts": accounts}).login_method == expected


@pytest.mark.parametrize("accounts", [None, [], [{}], [{"provider": None}]], ids=str)
def test_without_provider_the_method_is_how_the_address_was_proven(accounts: object) -> None:
    assert parse_clerk_user({**USER, "external_accounts": accounts}).login_method == "email_code"


@pytest.mark.parametrize("addresses", [None, [], [OTHER], [PRIMARY | {"id": "idn_9"}]], ids=str)
@pytest.mark.parametrize("primary_id", ["idn_1", "idn_"])
def test_primary_address_that_is_named_but_not_there_is_not_read_as_none(
    primary_id: str, addresses: object
) -> None:
    strange = {"primary_email_address_id": primary_id, "email_addresses": addresses}

    with pytest.raises(UnreadableProfileError):
        parse_clerk_user(USER | strange)


def test_method_is_not_known_without_provider_or_proof() -> None:
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
def test_description_is_of_its_last_change(
    milliseconds: int | None, expected: datetime | None
) -> None:
    assert parse_clerk_user({**USER, "updated_at": milliseconds}).as_of == expected


@pytest.mark.parametrize("document", [USER | {"email_addresses": 7}, {"id": "user_bob"}])
def test_id_is_read_whatever_else_is_strange(document: dict[str, Any]) -> None:
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
def test_what_describes_no_user_is_refused(document: object) -> None:
    with pytest.raises(UnreadableProfileError):
        parse_clerk_user(cast(dict[str, Any], document))
