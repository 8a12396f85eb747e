"""Webhooks of Clerk, which only speed updates up; nothing depends on them."""

from typing import Literal

import structlog
from flask import Blueprint, g, request
from typing_extensions import TypedDict

from auth.clerk_users import VerifiedMessage, read_message
from auth.errors import InvalidSignatureError
from provisioning.audit import Source
from provisioning.errors import NeedsAttentionError, ProvisioningUnavailableError
from web.access_policy import public_unlimited
from web.api import api_operation
from web.errors import HttpError
from web.request_hooks import check_rate_limit
from web.services import services

webhooks = Blueprint("webhooks", __name__, url_prefix="/webhooks")
log = structlog.get_logger(__name__)


class WebhookResponse(TypedDict):
    """Whether the message has changed anything."""

    status: Literal["applied", "ignored"]
    request_id: str


@webhooks.post("/clerk")
@public_unlimited
@api_operation(
    "invalid_signature",
    "payload_too_large",
    "not_configured",
    "rate_limited",
    "database_unavailable",
    "provisioning_unavailable",
)
def clerk() -> WebhookResponse:
    """Apply a signed message of Clerk: 200 when processed; Clerk sends it again after any error."""
    secret = services().config.clerk_webhook_secret
    if secret is None:
        raise HttpError("not_configured", "there is no secret to check signatures with")
    try:
        content, headers = request.get_data(), dict(request.headers)
        message = read_message(secret.get_secret_value(), headers, content)
    except InvalidSignatureError as err:
        check_rate_limit()
        log.warning("webhook_refused", reason=str(err))
        raise
    services().activity.note_use()
    try:
        is_applied = _apply(message)
    except NeedsAttentionError as err:  # Clerk can only send it again
        raise ProvisioningUnavailableError("to be sent again") from err
    event = "webhook_applied" if is_applied else "webhook_ignored"
    log.info(event, type=message.event, entry="webhook")
    return {"status": "applied" if is_applied else "ignored", "request_id": g.request_id}


def _apply(message: VerifiedMessage) -> bool:
    """Apply the message; return whether it has changed anything."""
    if message.identity is None:
        return False
    structlog.contextvars.bind_contextvars(clerk_id=message.identity.clerk_id)
    source, now = Source("webhook", g.request_id), services().now()
    service = services().provisioning
    handle = service.handle_user_deleted if message.is_deletion else service.handle_user_event
    return handle((message.id, message.event), message.identity, source=source, now=now)
