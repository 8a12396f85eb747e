"""Webhook messages by id: a message may be delivered several times but is handled once."""

from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models import WebhookMessage

KEPT = timedelta(days=30)  # far longer than a sender retries


def is_new(session: Session, message_id: str, event: str) -> bool:
    """Store the message id in the caller's transaction; return False if it was stored before.

    A concurrent delivery of the same message waits here for the other's commit.
    """
    inserted = (
        insert(WebhookMessage)
        .values(id=message_id, event=event)
        .on_conflict_do_nothing()
        .returning(WebhookMessage.id)
    )
    return session.scalars(inserted).one_or_none() is not None


def delete_old(session: Session, now: datetime) -> None:
    """Delete the ids of messages that will not be delivered again."""
    session.execute(delete(WebhookMessage).where(WebhookMessage.received_at < now - KEPT))
