"""Where Clerk tells what has changed; an accelerator, nothing depends on it."""

import structlog
from flask import Blueprint, g, request
from flask.typing import ResponseReturnValue

from blueprints.answers import answer
from blueprints.charging import charge_address
from blueprints.errors import provisioning_code
from blueprints.stance import public_unlimited
from house import house
from identity.errors import InvalidSignatureError
from identity.webhooks import Message, read_message
from provisioning.audit import Entry
from provisioning.errors import NeedsAttentionError, ProvisioningError

webhooks = Blueprint("webhooks", __name__, url_prefix="/webhooks")
log = structlog.get_logger(__name__)


@webhooks.post("/clerk")
@public_unlimited
def clerk() -> ResponseReturnValue:
    """200 once applied, also when it was applied before; anything else is sent again."""
    secret = house().config.clerk_webhook_secret
    if secret is None:
        return answer("not_configured")
    try:
        message = read_message(secret.get_secret_value(), dict(request.headers), request.get_data())
    except InvalidSignatureError as err:
        charge_address()
        log.warning("webhook_refused", reason=str(err))
        return answer("invalid_signature")
    try:
        is_applied = _apply(message)
    except ProvisioningError as err:
        has_given_up = isinstance(err, NeedsAttentionError)
        return answer("provisioning_unavailable" if has_given_up else provisioning_code(err))
    log.info(
        "webhook_applied" if is_applied else "webhook_ignored", type=message.event, entry="webhook"
    )
    return {"status": "applied" if is_applied else "ignored", "request_id": g.request_id}


def _apply(message: Message) -> bool:
    """Whether the message was news that concerns us."""
    if message.identity is None:
        return False
    structlog.contextvars.bind_contextvars(clerk_id=message.identity.clerk_id)
    entry, now = Entry("webhook", g.request_id), house().now()
    hear = house().guarantee.hear_of_departure if message.is_deletion else house().guarantee.hear
    return hear((message.id, message.event), message.identity, entry=entry, now=now)
