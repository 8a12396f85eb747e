"""webhook_messages: processed messages from Clerk, so that a repeated one has no second effect."""

from sqlalchemy import Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Model
from models.columns import CreatedAt


class WebhookMessage(Model):
    """A message that was applied or ignored; kept while Clerk may send it again."""

    __tablename__ = "webhook_messages"

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    event: Mapped[str]
    received_at: Mapped[CreatedAt]

    __table_args__ = (Index("webhook_messages_received_at_idx", "received_at"),)
