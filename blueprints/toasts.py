"""Messages for the next page of one person: shown once, and to nobody else in that browser."""

from flask import flash, g, get_flashed_messages


def tell(message: str) -> None:
    """Leave a message for the person at the gate."""
    flash(message, g.context.user["clerk_id"])


def told() -> list[str]:
    """Take the messages of the person at the gate; those of somebody else are dropped."""
    if "context" not in g:
        return []
    own = [g.context.user["clerk_id"]]
    return [str(message) for message in get_flashed_messages(category_filter=own)]
