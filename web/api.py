"""API operations: the signature of a view declares its body, query and responses.

mypy checks the view against it, requests are validated by it, and OpenAPI describes it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from inspect import getdoc
from typing import Any, Generic, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from typing_extensions import TypedDict

from provisioning.context import DENIED, FAILED_STATUSES, iso_utc
from web.validation import Body, Query, read_json, read_query, validate_model

View = TypeVar("View", bound=Callable[..., Any])

# The errors of a view that needs a profile.
PROFILE_CODES = ("mentorado_required", *DENIED, *FAILED_STATUSES)

NoContent = tuple[Literal[""], Literal[204]]

Row = TypeVar("Row")
Item = TypeVar("Item", bound=Mapping[str, Any])


class Items(TypedDict, Generic[Item]):
    """A complete list."""

    items: list[Item]


class Listed(Items[Item]):
    """A page of a list; `next_cursor` is null on the last page."""

    next_cursor: str | None


def list_page(rows: Sequence[Row], serialize: Callable[[Row], Item], *, limit: int) -> Listed[Item]:
    """Return the serialized rows of a page; the next cursor is the last item's id."""
    items = [serialize(row) for row in rows]
    is_full = len(items) == limit
    return {"items": items, "next_cursor": str(items[-1]["id"]) if is_full else None}


def serialize_row(shape: type[Item], row: object, **values: object) -> Item:
    """Return the fields of a typed dictionary as JSON values.

    They are the row's attributes of the same names, or `values`; optional fields only from there.
    """
    required: frozenset[str] = getattr(shape, "__required_keys__")  # noqa: B009 - unknown to mypy
    found = {
        name: values[name] if name in values else getattr(row, name)
        for name in shape.__annotations__
        if name in required or name in values
    }
    return cast(Item, {n: iso_utc(v) if isinstance(v, datetime) else v for n, v in found.items()})


@dataclass(frozen=True, slots=True)
class OperationSpec:
    """The specification of an operation, read from its view.

    `responses` are the types by status. `error_codes` are those that do not follow from the access
    policy, method or path.
    """

    summary: str
    path_parameters: Mapping[str, Any]
    body: type[Body] | None
    query: type[Query] | None
    responses: Mapping[int, Any]
    error_codes: tuple[str, ...]


OPERATIONS: dict[Callable[..., Any], OperationSpec] = {}  # by view


def api_operation(*error_codes: str) -> Callable[[View], View]:
    """Register a view as an API operation; it gets its validated body and query as arguments.

    `error_codes` are the problems of the operation, beside those that follow from its access
    policy, method and path. Place the decorator next to the view, below its access policy.
    """

    def decorate(view: View) -> View:
        hints = get_type_hints(view, include_extras=True)
        responses = _response_types(hints.pop("return"))
        models = {
            name: hint
            for name, hint in hints.items()
            if isinstance(hint, type) and issubclass(hint, Body | Query)
        }

        @wraps(view)
        def wrapper(**ids: object) -> object:
            return view(**ids, **{name: _read(model) for name, model in models.items()})

        registered = cast(View, wrapper) if models else view
        OPERATIONS[registered] = OperationSpec(
            (getdoc(view) or "").split("\n\n")[0].replace("\n", " "),
            {name: hint for name, hint in hints.items() if name not in models},
            next((model for model in models.values() if issubclass(model, Body)), None),
            next((model for model in models.values() if issubclass(model, Query)), None),
            responses,
            error_codes,
        )
        return registered

    return decorate


def _read(model: type[Body] | type[Query]) -> BaseModel:
    return validate_model(model, read_json()) if issubclass(model, Body) else read_query(model)


def _response_types(returned: object) -> dict[int, Any]:
    """Return the types by status, of `Shape` or of `tuple[Shape, Literal[200, 201], ...]`."""
    if get_origin(returned) is not tuple:
        return {200: returned}
    shape, statuses, *_ = get_args(returned)
    return dict.fromkeys(get_args(statuses), shape)
