"""What was changed, archived, received and set: tables to which no other table refers."""

from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Model
from models.columns import CreatedAt, partial_index


class AuditEvent(Model):
    """Who changed what, when and why; without foreign keys, because it outlives the rows."""

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
        partial_index("audit_events_request_id_idx", "request_id", where="request_id IS NOT NULL"),
        partial_index(
            "audit_events_short_code_idx",
            text('"left"(request_id, 8)'),
            where="request_id IS NOT NULL",
        ),
        partial_index(
            "audit_events_action_idx",
            text("(details ->> 'action')"),
            "id",
            where="event = 'admin_action'",
        ),
        partial_index("audit_events_actor_id_idx", "actor_id", "id", where="actor_id IS NOT NULL"),
        Index("audit_events_at_idx", "at", postgresql_using="brin"),  # rows come in this order
        # Events with values that end after some time, or are erased with their person.
        partial_index(
            "audit_events_values_idx", "at", where="details ?| array['before', 'after', 'email']"
        ),
        partial_index(
            "audit_events_reason_idx", "id", where="details ?| array['reason', 'impersonator']"
        ),
    )


class ArchivedRow(Model):
    """The copy of a row of any table that was deleted: in a merge, an adoption or with a profile.

    Profiles have no foreign keys, because the archive outlives them. Of a deleted profile, which
    can be restored, `kept_mentorado_id` is its own id.
    """

    __tablename__ = "archived_rows"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[CreatedAt]
    reason: Mapped[str]
    table_name: Mapped[str]
    content: Mapped[dict[str, Any]] = mapped_column(JSONB)
    mentorado_id: Mapped[int]
    kept_mentorado_id: Mapped[int]
    request_id: Mapped[str | None]
    # The owner of a deleted profile; the rows go with the user's row.
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))

    __table_args__ = (
        Index("archived_rows_mentorado_id_idx", "mentorado_id"),
        Index("archived_rows_kept_mentorado_id_idx", "kept_mentorado_id"),
        partial_index("archived_rows_user_id_idx", "user_id", where="user_id IS NOT NULL"),
        partial_index(
            "archived_rows_deleted_idx", "at", where="reason IN ('delete', 'month_deleted')"
        ),
    )


class Adoption(Model):
    """Facts of the adoption of another program's installation, which the downgrade needs."""

    __tablename__ = "adoptions"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    at: Mapped[CreatedAt]
    facts: Mapped[dict[str, Any]] = mapped_column(JSONB)


class WebhookMessage(Model):
    """A message from Clerk that was applied or ignored, kept while Clerk may send it again."""

    __tablename__ = "webhook_messages"

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    event: Mapped[str]
    received_at: Mapped[CreatedAt]

    __table_args__ = (Index("webhook_messages_received_at_idx", "received_at"),)


class AppSetting(Model):
    """A setting that admins change while the program runs, and the admin who changed it last."""

    __tablename__ = "app_settings"

    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[Any] = mapped_column(JSONB)
    updated_at: Mapped[CreatedAt]
    updated_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
