"""Annotations that give `str` fields a format or an enum in the OpenAPI document."""

import enum
from collections.abc import Iterable
from typing import Annotated

from pydantic import WithJsonSchema

Timestamp = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]


def one_of(values: Iterable[str] | type[enum.StrEnum]) -> WithJsonSchema:
    """Return the annotation of a text that is one of these values."""
    return WithJsonSchema({"type": "string", "enum": [str(value) for value in values]})
