"""archived_rows: copies of rows that were deleted, in merges, adoptions and with a profile."""

from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Model
from models.columns import CreatedAt


class ArchivedRow(Model):
    """One row of any table. Profiles have no foreign keys, because the archive outlives them.

    Of a deleted profile, which can be restored, `kept_mentorado_id` is its own id.
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
        Index(
            "archived_rows_user_id_idx",
            "user_id",
            postgresql_where=text("user_id IS NOT NULL"),
        ),
        Index(
            "archived_rows_deleted_idx",
            "at",
            postgresql_where=text("reason IN ('delete', 'month_deleted')"),
        ),
    )
