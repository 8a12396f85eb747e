"""adoptions: what was found and decided when an existing installation was taken over."""

from typing import Any

from sqlalchemy import Identity
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Model
from models.columns import CreatedAt


class Adoption(Model):
    """The facts that the way back needs; no row in an installation of our own."""

    __tablename__ = "adoptions"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    at: Mapped[CreatedAt]
    facts: Mapped[dict[str, Any]] = mapped_column(JSONB)
