"""Messages for the next page of a user: shown once, and to no other user of that browser."""

from flask import flash, g, get_flashed_messages, request


def tell(message: str) -> None:
    """Leave a message for the person at the gate."""
    flash(message, g.context.user["clerk_id"])


def told() -> list[str]:
    """Take the messages of the user; those of another user are dropped.

    A page that is not shown to a person (HEAD, a prefetch, a frame) leaves them for one that is.
    """
    if "context" not in g or not _is_shown():
        return []
    own = [g.context.user["clerk_id"]]
    return [str(message) for message in get_flashed_messages(category_filter=own)]


def _is_shown() -> bool:
    headers = request.headers
    purpose = f"{headers.get('Sec-Purpose', '')} {headers.get('Purpose', '')}".lower()
    is_ahead = "prefetch" in purpose or "prerender" in purpose
    is_document = headers.get("Sec-Fetch-Dest", "document") == "document"
    return request.method != "HEAD" and not is_ahead and is_document
