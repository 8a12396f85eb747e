"""What Clerk tells of its own accord: messages about users, believed when their signature holds."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from svix.webhooks import Webhook, WebhookVerificationError

from identity.errors import InvalidSignatureError, UnreadableProfileError
from identity.profiles import described
from provisioning.identity import Identity

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
    try:
        Webhook(secret).verify(body, dict(headers))
        document = json.loads(body)
    except (WebhookVerificationError, ValueError) as err:
        raise InvalidSignatureError(type(err).__name__) from err
    event = document.get("type") if isinstance(document, dict) else None
    named = {name.lower(): value for name, value in headers.items()}
    message_id = named.get("svix-id") or named.get("webhook-id", "")
    if not isinstance(event, str):
        return Message(message_id, "unknown")
    return Message(message_id, event, _concerned(event, document.get("data")))


def _concerned(event: str, data: Any) -> Identity | None:
    if event not in (*CHANGES, DELETION):
        return None
    try:
        return described(data)
    except UnreadableProfileError:
        return None
