"""Lists by key: what a page of one holds, and where the next page begins."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from typing_extensions import TypedDict

from blueprints.queries import LARGEST_ID

ID = f"int(min=1, max={LARGEST_ID})"  # the router's own 404 for what no row could have

Row = TypeVar("Row")
Item = TypeVar("Item", bound=Mapping[str, Any])


class Items(TypedDict, Generic[Item]):
    """A list that is told as a whole."""

    items: list[Item]


class Listed(Items[Item]):
    """A page of a list; null where the list has ended."""

    next_cursor: str | None


def listed(rows: Sequence[Row], shape: Callable[[Row], Item], *, limit: int) -> Listed[Item]:
    """The items of a page; the cursor of the next one is the last item's id."""
    items = [shape(row) for row in rows]
    is_full = len(items) == limit
    return {"items": items, "next_cursor": str(items[-1]["id"]) if is_full else None}
