"""The column types and partial indexes that several tables share."""

import enum
from datetime import datetime
from typing import Annotated, Any

from sqlalchemy import DateTime, Enum, Index, func, text
from sqlalchemy.orm import mapped_column

# Times have a time zone and are in UTC; the database server fills missing ones.
Time = Annotated[datetime, mapped_column(DateTime(timezone=True))]
CreatedAt = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.now())]
Count = Annotated[int, mapped_column(server_default=text("0"))]
Flag = Annotated[bool, mapped_column(server_default=text("false"))]


def pg_enum(values: type[enum.StrEnum], name: str) -> Enum:
    """Return a native PostgreSQL enum that stores the values, not Python's member names."""
    return Enum(values, name=name, values_callable=lambda members: [m.value for m in members])


def partial_index(name: str, *columns: Any, where: str, **options: Any) -> Index:
    """Return an index of the rows that meet a condition in SQL."""
    return Index(name, *columns, postgresql_where=text(where), **options)
