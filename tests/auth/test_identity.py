"""What the token says of a person, completed by what the provider says when it is asked."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from auth.identity import Identity
from tests.support.users import ALICE, BOB, NOW, identity_of

IMAGE = "https://img.example.com/bob.png"
LATER = datetime(2026, 3, 11, tzinfo=UTC)
TOKEN = Identity(BOB.clerk_id, BOB.name, BOB.email, True, IMAGE, "password", as_of=NOW)
SILENT = Identity(BOB.clerk_id)
UNKNOWN = Identity(BOB.clerk_id, is_complete=True)


def test_provider_counts_more_than_the_token() -> None:
    other_image = "https://img.example.com/b.png"
    told = Identity(BOB.clerk_id, "Bob", "b@example.com", True, other_image, "google", True)

    assert TOKEN.merged_with(told) == told


def test_token_fills_what_the_provider_leaves_open() -> None:
    assert TOKEN.merged_with(SILENT) == TOKEN


def test_provider_fills_what_the_token_leaves_open() -> None:
    assert SILENT.merged_with(TOKEN) == TOKEN


@pytest.mark.parametrize("field", ["name", "image_url", "login_method"])
def test_gaps_are_filled_one_by_one(field: str) -> None:
    told = replace(TOKEN, name="Bob", image_url=f"{IMAGE}?2", login_method="google")
    gap: dict[str, Any] = {field: None}

    completed = TOKEN.merged_with(replace(told, **gap))

    assert completed == replace(told, **{field: getattr(TOKEN, field)})


@pytest.mark.parametrize("token_says", [True, False, None])
@pytest.mark.parametrize("provider_says", [True, False])
def test_address_and_verdict_move_together(token_says: bool | None, provider_says: bool) -> None:
    token = identity_of(BOB, verified=token_says)
    told = Identity(BOB.clerk_id, email=ALICE.email, email_verified=provider_says)

    completed = token.merged_with(told)

    assert (completed.email, completed.email_verified) == (ALICE.email, provider_says)


@pytest.mark.parametrize("verified", [True, False, None])
def test_address_without_verdict_moves_nothing(verified: bool | None) -> None:
    token = identity_of(BOB, verified=verified)

    completed = token.merged_with(Identity(BOB.clerk_id, email=ALICE.email))

    assert (completed.email, completed.email_verified) == (BOB.email, verified)


def test_verdict_without_address_says_that_there_is_none() -> None:
    completed = TOKEN.merged_with(Identity(BOB.clerk_id, email_verified=False))

    assert (completed.email, completed.email_verified) == (None, False)


def test_unknown_person_loses_nothing_and_is_asked_about_no_more() -> None:
    assert TOKEN.merged_with(UNKNOWN) == replace(TOKEN, is_complete=True)


def test_person_stays_who_they_are() -> None:
    assert TOKEN.merged_with(identity_of(ALICE)).clerk_id == BOB.clerk_id


@pytest.mark.parametrize("told", [LATER, None], ids=str)
def test_moment_is_the_providers(told: datetime | None) -> None:
    assert TOKEN.merged_with(replace(SILENT, as_of=told)).as_of == told


def test_each_token_of_a_person_says_the_same() -> None:
    later = replace(TOKEN, as_of=LATER)

    assert later == TOKEN
    assert hash(later) == hash(TOKEN)


def test_moment_is_not_shown() -> None:
    assert repr(TOKEN) == repr(replace(TOKEN, as_of=None))
