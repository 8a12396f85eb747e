"""Flash messages of the signed-in user."""

from flask import flash, g, get_flashed_messages, request


def flash_user(message: str) -> None:
    """Flash a message for the signed-in user."""
    flash(message, g.context.user["clerk_id"])


def pop_flashes() -> list[str]:
    """Return the user's flash messages; those of another user are dropped.

    A response that is not shown (HEAD, a prefetch, a frame) leaves them for the next page.
    """
    headers = request.headers
    purpose = f"{headers.get('Sec-Purpose', '')} {headers.get('Purpose', '')}".lower()
    is_prefetch = "prefetch" in purpose or "prerender" in purpose
    is_document = headers.get("Sec-Fetch-Dest", "document") == "document"
    if "context" not in g or request.method == "HEAD" or is_prefetch or not is_document:
        return []
    categories = [g.context.user["clerk_id"]]
    return [str(message) for message in get_flashed_messages(category_filter=categories)]
