"""sweep_totals: what all sweeps ever came to, which outlives the runs themselves."""

from sqlalchemy import BigInteger, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Model


class SweepTotal(Model):
    """How many runs of a trigger ended in this way, and how many people they gave a profile."""

    __tablename__ = "sweep_totals"

    trigger: Mapped[str] = mapped_column(Text, primary_key=True)
    status: Mapped[str] = mapped_column(Text, primary_key=True)
    runs: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    repaired: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
