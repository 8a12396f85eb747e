"""An overview as text and back, for a time when the database cannot be asked."""

from dataclasses import replace

from pydantic import TypeAdapter

from dashboard.overview import Overview

_OVERVIEW = TypeAdapter(Overview)


def written(overview: Overview) -> str:
    """The overview as JSON."""
    return _OVERVIEW.dump_json(overview).decode()


def read_again(text: str) -> Overview:
    """What was written, marked as read-only; raises pydantic's ValidationError for other text."""
    return replace(_OVERVIEW.validate_json(text), read_only=True)
