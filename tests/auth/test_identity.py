"""The identity of a token is completed with the identity that the provider returns."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from auth.identity import Identity
from tests.support.users import ALICE, BOB, NOW, identity_of

IMAGE = "https://img.example.com/bob.png"
LATER = datetime(2026, 3, 11, tzinfo=UTC)
TOKEN = Identity(BOB.clerk_id, BOB.name, BOB.email, True, IMAGE, "password", as_of=NOW)
EMPTY = Identity(BOB.clerk_id)
UNKNOWN = Identity(BOB.clerk_id, is_complete=True)


def test_provider_takes_precedence_over_the_token() -> None:
    other_image = "https://img.example.com/b.png"
    provided = Identity(BOB.clerk_id, "Bob", "b@example.com", True, other_image, "google", True)

    assert TOKEN.merged_with(provided) == provided


def test_token_fills_fields_that_the_provider_lacks() -> None:
    assert TOKEN.merged_with(EMPTY) == TOKEN


def test_provider_fills_fields_that_the_token_lacks() -> None:
    assert EMPTY.merged_with(TOKEN) == TOKEN


@pytest.mark.parametrize("field", ["name", "image_url", "login_method"])
def test_each_missing_field_is_filled_alone(field: str) -> None:
    provided = replace(TOKEN, name="Bob", image_url=f"{IMAGE}?2", login_method="google")
    gap: dict[str, Any] = {field: None}

    completed = TOKEN.merged_with(replace(provided, **gap))

    assert completed == replace(provided, **{field: getattr(TOKEN, field)})


@pytest.mark.parametrize("token_says", [True, False, None])
@pytest.mark.parametrize("provider_says", [True, False])
def test_address_is_replaced_together_with_its_verification(
    token_says: bool | None, provider_says: bool
) -> None:
    token = identity_of(BOB, verified=token_says)
    provided = Identity(BOB.clerk_id, email=ALICE.email, email_verified=provider_says)

    completed = token.merged_with(provided)

    assert (completed.email, completed.email_verified) == (ALICE.email, provider_says)


@pytest.mark.parametrize("verified", [True, False, None])
def test_address_without_verification_replaces_nothing(verified: bool | None) -> None:
    token = identity_of(BOB, verified=verified)

    completed = token.merged_with(Identity(BOB.clerk_id, email=ALICE.email))

    assert (completed.email, completed.email_verified) == (BOB.email, verified)


def test_verification_without_address_removes_the_address() -> None:
    completed = TOKEN.merged_with(Identity(BOB.clerk_id, email_verified=False))

    assert (completed.email, completed.email_verified) == (None, False)


def test_unknown_user_keeps_all_fields_and_becomes_complete() -> None:
    assert TOKEN.merged_with(UNKNOWN) == replace(TOKEN, is_complete=True)


def test_id_is_never_replaced() -> None:
    assert TOKEN.merged_with(identity_of(ALICE)).clerk_id == BOB.clerk_id


@pytest.mark.parametrize("provided", [LATER, None], ids=str)
def test_time_is_that_of_the_provider(provided: datetime | None) -> None:
    assert TOKEN.merged_with(replace(EMPTY, as_of=provided)).as_of == provided


def test_identities_with_different_times_are_equal() -> None:
    later = replace(TOKEN, as_of=LATER)

    assert later == TOKEN
    assert hash(later) == hash(TOKEN)


def test_time_is_not_part_of_the_repr() -> None:
    assert repr(TOKEN) == repr(replace(TOKEN, as_of=None))
