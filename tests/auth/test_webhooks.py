"""Clerk's webhook messages: the signature is verified, and the user is read from the message."""

import json
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from svix.webhooks import Webhook

from auth.clerk_users import VerifiedMessage, read_message
from auth.errors import InvalidSignatureError
from auth.identity import Identity
from auth.tokens import DEEPEST
from dev.fake_clerk import clerk_user
from tests.support.users import ALICE, BOB

SECRET = f"whsec_{b64encode(b'shared with Clerk').decode()}"
OTHER_SECRET = f"whsec_{b64encode(b'another secret').decode()}"


def message(event: object, data: object) -> bytes:
    return json.dumps({"object": "event", "type": event, "data": data}).encode()


CREATED = message("user.created", clerk_user(BOB))


def signed(body: bytes, *, secret: str = SECRET, minutes: float = 0) -> dict[str, str]:
    """The headers of a message that is sent `minutes` from now."""
    sent = datetime.now(UTC) + timedelta(minutes=minutes)
    signature = Webhook(secret).sign("msg_1", sent, body.decode())
    times = {"svix-timestamp": str(int(sent.timestamp()))}
    return {"svix-id": "msg_1", "svix-signature": signature, **times}


def read(body: bytes) -> VerifiedMessage:
    return read_message(SECRET, signed(body), body)


@pytest.mark.parametrize("event", ["user.created", "user.updated"])
def test_change_event_contains_the_identity(event: str) -> None:
    received = read(message(event, clerk_user(BOB)))

    assert received.identity == Identity(BOB.clerk_id, BOB.name, BOB.email, True, is_complete=True)
    assert (received.id, received.event, received.is_deletion) == ("msg_1", event, False)


def test_deletion_event_contains_the_deleted_user() -> None:
    received = read(message("user.deleted", {"id": BOB.clerk_id, "deleted": True}))

    assert received.is_deletion
    assert received.identity == Identity(BOB.clerk_id, email_verified=False, is_complete=True)


MALFORMED: list[dict[str, object]] = [
    {"email_addresses": "x"},
    {"email_addresses": None, "primary_email_address_id": "idn_1"},
    {"primary_email_address_id": "idn_9"},
    {"first_name": 7},
]


@pytest.mark.parametrize("event", ["user.created", "user.updated", "user.deleted"])
@pytest.mark.parametrize("malformed", MALFORMED, ids=str)
def test_malformed_user_has_an_id_only(event: str, malformed: dict[str, object]) -> None:
    received = read(message(event, {**clerk_user(BOB), **malformed}))

    assert (received.identity, received.is_deletion) == (
        Identity(BOB.clerk_id),
        event == "user.deleted",
    )


def nested(levels: int) -> bytes:
    metadata = b"[" * levels + b"]" * levels
    return CREATED[:-2] + b', "unsafe_metadata": ' + metadata + b"}}"


@pytest.mark.parametrize("levels", [DEEPEST, 9_000])
def test_too_deeply_nested_message_is_refused(levels: int) -> None:
    with pytest.raises(InvalidSignatureError):
        read(nested(levels))


def test_message_with_nested_metadata_is_read() -> None:
    assert read(nested(DEEPEST - 3)).identity is not None


def test_signature_by_another_secret_is_refused() -> None:
    with pytest.raises(InvalidSignatureError):
        read_message(SECRET, signed(CREATED, secret=OTHER_SECRET), CREATED)


@pytest.mark.parametrize(
    "body",
    [message("user.created", clerk_user(ALICE)), CREATED + b" ", CREATED[:-1], b"", b"\xff"],
    ids=["another", "longer", "shorter", "empty", "no text"],
)
def test_changed_body_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidSignatureError):
        read_message(SECRET, signed(CREATED), body)


@pytest.mark.parametrize("minutes", [-6, 6])
def test_old_or_future_message_is_refused(minutes: float) -> None:
    with pytest.raises(InvalidSignatureError):
        read_message(SECRET, signed(CREATED, minutes=minutes), CREATED)


@pytest.mark.parametrize("minutes", [-4, 4])
def test_clocks_may_differ_by_some_minutes(minutes: float) -> None:
    received = read_message(SECRET, signed(CREATED, minutes=minutes), CREATED)

    assert received.event == "user.created"


@pytest.mark.parametrize("name", ["svix-id", "svix-timestamp", "svix-signature"])
def test_message_without_one_of_its_headers_is_refused(name: str) -> None:
    headers = signed(CREATED)

    del headers[name]

    with pytest.raises(InvalidSignatureError):
        read_message(SECRET, headers, CREATED)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("svix-id", "msg_2"),
        ("svix-timestamp", "1"),
        ("svix-timestamp", "now"),
        ("svix-timestamp", "nan"),
        ("svix-timestamp", "1e400"),
        ("svix-timestamp", "9" * 30),
        ("svix-signature", "v1"),
        ("svix-signature", "v1,!"),
        ("svix-signature", "v1,é"),
        ("svix-signature", "v2,AAAA"),
        ("svix-signature", "v1,AAAA"),
    ],
)
def test_forged_header_is_refused(name: str, value: str) -> None:
    headers = {**signed(CREATED), name: value}

    with pytest.raises(InvalidSignatureError):
        read_message(SECRET, headers, CREATED)


def test_one_valid_signature_of_several_is_enough() -> None:
    headers, old = signed(CREATED), signed(CREATED, secret=OTHER_SECRET)

    headers["svix-signature"] = f"{old['svix-signature']} {headers['svix-signature']}"

    assert read_message(SECRET, headers, CREATED).identity is not None


@pytest.mark.parametrize("change", [str.upper, str.title, lambda n: n.replace("svix", "webhook")])
def test_header_names_may_have_any_case_and_the_standard_form(
    change: Callable[[str], str],
) -> None:
    headers = {change(name): value for name, value in signed(CREATED).items()}

    received = read_message(SECRET, headers, CREATED)

    assert (received.id, received.event) == ("msg_1", "user.created")


@pytest.mark.parametrize("body", [b"", b"hello", b'{"type": "user.created"'], ids=repr)
def test_signed_message_that_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidSignatureError):
        read(body)


@pytest.mark.parametrize("body", [b"[]", b"null", b'"user.created"', b"{}", b'{"type": 7}'])
def test_message_without_event_has_no_user(body: bytes) -> None:
    assert read(body) == VerifiedMessage("msg_1", "unknown", None)


@pytest.mark.parametrize("event", ["session.created", "email.created", "User.created", ""])
def test_event_about_something_else_has_no_user(event: str) -> None:
    assert read(message(event, clerk_user(BOB))) == VerifiedMessage("msg_1", event, None)


@pytest.mark.parametrize("event", ["user.created", "user.updated", "user.deleted"])
@pytest.mark.parametrize(
    "data",
    [None, [], "user_bob", {}, {"id": None}, {"id": 7}, {"id": ""}, {"id": "u" * 65}],
    ids=lambda data: str(data)[:15],
)
def test_unusable_id_is_no_user(event: str, data: object) -> None:
    assert read(message(event, data)) == VerifiedMessage("msg_1", event, None)


def test_longest_id_is_a_user() -> None:
    received = read(message("user.deleted", {"id": "u" * 64}))

    assert received.identity is not None
