"""adoptions: facts and decisions of the adoption of another program's installation."""

from typing import Any

from sqlalchemy import Identity
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Model
from models.columns import CreatedAt


class Adoption(Model):
    """The facts that the downgrade needs; no row in an installation that was not adopted."""

    __tablename__ = "adoptions"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    at: Mapped[CreatedAt]
    facts: Mapped[dict[str, Any]] = mapped_column(JSONB)
