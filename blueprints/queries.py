"""Reading query strings: the fields of a model are what may be asked for, and describe it."""

from typing import Annotated, TypeVar

from flask import request
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from blueprints.bodies import checked

LONGEST_LIST = 200
LARGEST_ID = 2_147_483_647
LARGEST_EVENT_ID = 2**53 - 1  # the record grows faster than others; as far as JSON can count
LONGEST_NUMBER = len(str(LARGEST_EVENT_ID))

QueryType = TypeVar("QueryType", bound="Query")


class Query(BaseModel):
    """Base of all queries: what is not asked for by name is not heard."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def _digits(value: object) -> object:
    """Only digits are a number here, where Python would also read `+1_0`."""
    if not isinstance(value, str):
        return value
    if not (value.isascii() and value.isdecimal() and len(value) <= LONGEST_NUMBER):
        raise PydanticCustomError("int_type", "no number")
    return int(value)


def _text(value: object) -> object:
    """Blanks, and what no column can hold, ask for nothing."""
    return (value.replace("\x00", "").strip() or None) if isinstance(value, str) else value


def _capped(value: int) -> int:
    return min(value, LONGEST_LIST)


NEXT = "`next_cursor` of the page before"
MOST = f"However many are asked for, no more than {LONGEST_LIST} come"

Digits = BeforeValidator(_digits)
Key = Annotated[int, Field(ge=0, le=LARGEST_ID), Digits]
EventKey = Annotated[int, Field(ge=0, le=LARGEST_EVENT_ID), Digits]
Count = Annotated[int, Field(ge=1, le=LARGEST_ID), Digits]
Text = Annotated[str | None, BeforeValidator(_text), WithJsonSchema({"type": "string"})]


class Paging(Query):
    """How far a list goes: rows after the key `cursor`, `limit` of them (CONTRACT section 4.2)."""

    cursor: Annotated[Key, Field(description=NEXT)] = 0
    limit: Annotated[Count, Field(description=MOST), AfterValidator(_capped)] = LONGEST_LIST


class Search(Paging):
    """Those with a text in their name or address."""

    q: Annotated[Text, Field(description="A part of the name or address")] = None


def read_query(model: type[QueryType]) -> QueryType:
    """Read what the query string asks for; a blank parameter counts as absent.

    Raises InvalidInputError naming every parameter that does not fit, as none does that is there
    more than once: nobody could tell which one was meant.
    """
    given = {name: texts for name, texts in request.args.lists() if any(texts)}
    return checked(model, {n: texts[0] if len(texts) == 1 else texts for n, texts in given.items()})
