"""sweep_totals: counts over all sweep runs, kept after the runs are deleted."""

from sqlalchemy import BigInteger, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Model


class SweepTotal(Model):
    """The number of runs with a trigger and a status, and the profiles that they provided."""

    __tablename__ = "sweep_totals"

    trigger: Mapped[str] = mapped_column(Text, primary_key=True)
    status: Mapped[str] = mapped_column(Text, primary_key=True)
    runs: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    repaired: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
