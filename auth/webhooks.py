"""What Clerk tells of its own accord: messages about users, believed when their signature holds."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from standardwebhooks import Webhook, WebhookVerificationError

from auth.clerk_users import parse_clerk_user, parse_clerk_user_id
from auth.errors import InvalidSignatureError, UnreadableProfileError
from auth.identity import Identity
from auth.nesting import is_too_deep

CHANGES = ("user.created", "user.updated")
DELETION = "user.deleted"


@dataclass(frozen=True, slots=True)
class Message:
    """A message whose signature has been checked; `identity` is None where it concerns nobody."""

    id: str
    event: str
    identity: Identity | None = None

    @property
    def is_deletion(self) -> bool:
        """Whether the account is gone."""
        return self.event == DELETION


def read_message(secret: str, headers: Mapping[str, str], body: bytes) -> Message:
    """Check the signature and its time (five minutes either way), then read what is told.

    Raises InvalidSignatureError.
    """
    named = _standard(headers)
    try:
        document = Webhook(secret).verify(body, named)
    except (WebhookVerificationError, ValueError, OverflowError, RecursionError) as err:
        raise InvalidSignatureError(type(err).__name__) from err
    if is_too_deep(document):
        raise InvalidSignatureError("nested too deep")
    event = document.get("type") if isinstance(document, dict) else None
    if not isinstance(event, str):
        return Message(named["webhook-id"], "unknown")
    return Message(named["webhook-id"], event, _concerned(event, document.get("data")))


def _standard(headers: Mapping[str, str]) -> dict[str, str]:
    """What a signature covers, by its standard names; Svix, who sends for Clerk, has its own."""
    sent = {name.lower(): value for name, value in headers.items()}
    return {
        f"webhook-{part}": sent.get(f"svix-{part}") or sent.get(f"webhook-{part}", "")
        for part in ("id", "timestamp", "signature")
    }


def _concerned(event: str, data: object) -> Identity | None:
    """The user whom the message is about; None where it concerns nobody.

    A user who cannot be read is known by the id alone: enough for a deletion, and of a change it
    tells that there is news to ask for.
    """
    if event not in (*CHANGES, DELETION):
        return None
    with suppress(UnreadableProfileError):
        return parse_clerk_user(data)
    with suppress(UnreadableProfileError):
        return Identity(parse_clerk_user_id(data))
    return None
