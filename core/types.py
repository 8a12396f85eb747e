"""What the description of the API knows of values that are just `str` to Python."""

import enum
from collections.abc import Iterable
from typing import Annotated

from pydantic import WithJsonSchema

Moment = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]


def one_of(values: Iterable[str] | type[enum.StrEnum]) -> WithJsonSchema:
    """Mark a text as one of these."""
    return WithJsonSchema({"type": "string", "enum": [str(value) for value in values]})
