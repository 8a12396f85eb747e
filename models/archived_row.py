"""archived_rows: copies of rows that were deleted in merges and adoptions."""

from typing import Any

from sqlalchemy import BigInteger, Identity, Index
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Model
from models.columns import CreatedAt


class ArchivedRow(Model):
    """One row of any table. Ids have no foreign keys, because the archive outlives their rows."""

    __tablename__ = "archived_rows"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[CreatedAt]
    reason: Mapped[str]
    table_name: Mapped[str]
    content: Mapped[dict[str, Any]] = mapped_column(JSONB)
    mentorado_id: Mapped[int]
    kept_mentorado_id: Mapped[int]
    request_id: Mapped[str | None]

    __table_args__ = (
        Index("archived_rows_mentorado_id_idx", "mentorado_id"),
        Index("archived_rows_kept_mentorado_id_idx", "kept_mentorado_id"),
    )
