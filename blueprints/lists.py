"""Lists by key: how far a page goes, and where the next one begins."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import request

from blueprints.errors import InvalidInputError

LONGEST_LIST = 200
LARGEST_ID = 2_147_483_647
LARGEST_EVENT_ID = 9_223_372_036_854_775_807  # the record grows faster than any other table
LONGEST_NUMBER = len(str(LARGEST_EVENT_ID))
ID = f"int(max={LARGEST_ID})"  # the router's own 404 for what no column could hold

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Page:
    """What the query string asks for: rows after the key `after_id`, `limit` of them."""

    after_id: int
    limit: int

    def answer(self, rows: Sequence[Row], shape: Callable[[Row], dict[str, Any]]) -> dict[str, Any]:
        """The items of this page; the cursor of the next one is the last item's id."""
        items = [shape(row) for row in rows]
        is_full = len(items) == self.limit
        return {"items": items, "next_cursor": str(items[-1]["id"]) if is_full else None}


def asked_page(*, most: int = LARGEST_ID, longest: int = LONGEST_LIST) -> Page:
    """Read `cursor` and `limit`; raises InvalidInputError for what is no number in range."""
    return Page(
        _number("cursor", default=0, most=most),
        max(1, _number("limit", default=longest, most=longest)),
    )


def asked_text(name: str) -> str | None:
    """A text to search for; blanks, and what no column can hold, ask for nothing."""
    return request.args.get(name, "").replace("\x00", "").strip() or None


def _number(name: str, *, default: int, most: int) -> int:
    text = request.args.get(name, "")
    if not text:
        return default
    is_number = text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER
    if not is_number or int(text) > most:
        raise InvalidInputError(
            [{"field": name, "message": f"Informe um número inteiro de até {most}."}]
        )
    return int(text)
