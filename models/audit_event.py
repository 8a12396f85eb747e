"""audit_events: who changed what, when and why; rows are only inserted."""

from typing import Any

from sqlalchemy import BigInteger, Identity, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Model
from models.columns import CreatedAt


class AuditEvent(Model):
    """One change. Ids have no foreign keys, because the event outlives their rows."""

    __tablename__ = "audit_events"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[CreatedAt]
    event: Mapped[str]
    entry: Mapped[str]
    actor_id: Mapped[int | None]
    user_id: Mapped[int | None]
    mentorado_id: Mapped[int | None]
    request_id: Mapped[str | None]
    details: Mapped[dict[str, Any] | None] = mapped_column(JSONB)

    __table_args__ = (
        Index("audit_events_user_id_idx", "user_id", "id"),
        Index("audit_events_mentorado_id_idx", "mentorado_id", "id"),
        Index(
            "audit_events_request_id_idx",
            "request_id",
            postgresql_where=text("request_id IS NOT NULL"),
        ),
        Index(
            "audit_events_short_code_idx",
            text('"left"(request_id, 8)'),
            postgresql_where=text("request_id IS NOT NULL"),
        ),
        Index(
            "audit_events_action_idx",
            text("(details ->> 'action')"),
            "id",
            postgresql_where=text("event = 'admin_action'"),
        ),
        Index(
            "audit_events_actor_id_idx",
            "actor_id",
            "id",
            postgresql_where=text("actor_id IS NOT NULL"),
        ),
        Index("audit_events_at_idx", "at", postgresql_using="brin"),  # rows come in this order
        # Events with values that end after some time, or are erased with their person.
        Index(
            "audit_events_values_idx",
            "at",
            postgresql_where=text("details ?| array['before', 'after', 'email']"),
        ),
        Index(
            "audit_events_reason_idx",
            "id",
            postgresql_where=text("details ?| array['reason', 'impersonator']"),
        ),
    )
