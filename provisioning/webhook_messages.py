"""Messages that may be told more than once, and act once."""

from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models import WebhookMessage

KEPT = timedelta(days=30)  # far beyond the days for which a sender tries again


def is_new(session: Session, message_id: str, event: str) -> bool:
    """Note the message in the caller's transaction, so that both stand or fall together.

    Whoever is told the same message at the same time waits here for the other's commit.
    """
    noted = (
        insert(WebhookMessage)
        .values(id=message_id, event=event)
        .on_conflict_do_nothing()
        .returning(WebhookMessage.id)
    )
    return session.scalars(noted).one_or_none() is not None


def delete_old(session: Session, now: datetime) -> None:
    """Drop the notes of messages that will not come again."""
    session.execute(delete(WebhookMessage).where(WebhookMessage.received_at < now - KEPT))
