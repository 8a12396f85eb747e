"""Clerk's webhook messages: verify the signature and read the identity of the user."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from standardwebhooks import Webhook, WebhookVerificationError

from auth.clerk_users import parse_clerk_user, parse_clerk_user_id
from auth.errors import InvalidSignatureError, UnreadableProfileError
from auth.identity import Identity
from auth.tokens import is_too_deep

CHANGES = ("user.created", "user.updated")
DELETION = "user.deleted"


@dataclass(frozen=True, slots=True)
class VerifiedMessage:
    """A message with a valid signature; `identity` is None where it concerns no user."""

    id: str
    event: str
    identity: Identity | None = None

    @property
    def is_deletion(self) -> bool:
        """Whether the account was deleted."""
        return self.event == DELETION


def read_message(secret: str, headers: Mapping[str, str], body: bytes) -> VerifiedMessage:
    """Verify the signature and its time (within five minutes), then read the message.

    Raises InvalidSignatureError.
    """
    signed_headers = _standard_headers(headers)
    try:
        document = Webhook(secret).verify(body, signed_headers)
    except (WebhookVerificationError, ValueError, OverflowError, RecursionError) as err:
        raise InvalidSignatureError(type(err).__name__) from err
    if is_too_deep(document):
        raise InvalidSignatureError("nested too deep")
    event = document.get("type") if isinstance(document, dict) else None
    if not isinstance(event, str):
        return VerifiedMessage(signed_headers["webhook-id"], "unknown")
    identity = _identity(event, document.get("data"))
    return VerifiedMessage(signed_headers["webhook-id"], event, identity)


def _standard_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the signature headers by their standard names; Svix, Clerk's sender, has others."""
    sent = {name.lower(): value for name, value in headers.items()}
    return {
        f"webhook-{part}": sent.get(f"svix-{part}") or sent.get(f"webhook-{part}", "")
        for part in ("id", "timestamp", "signature")
    }


def _identity(event: str, data: object) -> Identity | None:
    """Return the identity of the user in the message; None where it concerns no user.

    Of an unreadable user only the id is returned: enough for a deletion, and after a change the
    user can be looked up.
    """
    if event not in (*CHANGES, DELETION):
        return None
    with suppress(UnreadableProfileError):
        return parse_clerk_user(data)
    with suppress(UnreadableProfileError):
        return Identity(parse_clerk_user_id(data))
    return None
