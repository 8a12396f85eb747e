"""Where Clerk tells what has changed; an accelerator, nothing depends on it."""

from typing import Literal

import structlog
from flask import Blueprint, g, request
from typing_extensions import TypedDict

from auth.errors import InvalidSignatureError
from auth.webhooks import Message, read_message
from provisioning.audit import Entry
from provisioning.errors import NeedsAttentionError, ProvisioningUnavailableError
from web.access_policy import public_unlimited
from web.api import described
from web.errors import NotConfiguredError
from web.request_hooks import charge_address
from web.services import house

webhooks = Blueprint("webhooks", __name__, url_prefix="/webhooks")
log = structlog.get_logger(__name__)


class Heard(TypedDict):
    """Whether the message was news."""

    status: Literal["applied", "ignored"]
    request_id: str


@webhooks.post("/clerk")
@public_unlimited
@described(
    *("invalid_signature", "payload_too_large", "not_configured", "rate_limited"),
    *("database_unavailable", "provisioning_unavailable"),
)
def clerk() -> Heard:
    """Hear a signed message of Clerk: 200 once applied; anything else is sent again."""
    message = _message()
    try:
        is_applied = _apply(message)
    except NeedsAttentionError as err:  # a sender can do nothing about it but send again
        raise ProvisioningUnavailableError("to be sent again") from err
    log.info(
        "webhook_applied" if is_applied else "webhook_ignored", type=message.event, entry="webhook"
    )
    return {"status": "applied" if is_applied else "ignored", "request_id": g.request_id}


def _message() -> Message:
    secret = house().config.clerk_webhook_secret
    if secret is None:
        raise NotConfiguredError("there is no secret to check signatures with")
    try:
        return read_message(secret.get_secret_value(), dict(request.headers), request.get_data())
    except InvalidSignatureError as err:
        charge_address()
        log.warning("webhook_refused", reason=str(err))
        raise


def _apply(message: Message) -> bool:
    """Whether the message was news that concerns us."""
    if message.identity is None:
        return False
    structlog.contextvars.bind_contextvars(clerk_id=message.identity.clerk_id)
    entry, now = Entry("webhook", g.request_id), house().now()
    hear = house().guarantee.hear_of_departure if message.is_deletion else house().guarantee.hear
    return hear((message.id, message.event), message.identity, entry=entry, now=now)
