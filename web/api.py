"""API operations: the signature of a view declares its body, query and responses.

mypy checks the view against it, requests are validated by it, and OpenAPI describes it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, wraps
from inspect import getdoc
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from provisioning.context import DENIED, FAILED_STATUSES
from web.validation import Body, Query, read_body, read_query

View = TypeVar("View", bound=Callable[..., Any])

# The errors of a view that needs a profile.
PROFILE_CODES = ("mentorado_required", *DENIED, *FAILED_STATUSES)

NoContent = tuple[Literal[""], Literal[204]]


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


_specs: dict[Callable[..., Any], OperationSpec] = {}


def api_operation(*error_codes: str) -> Callable[[View], View]:
    """Register a view as an API operation; it gets its validated body and query as arguments.

    `error_codes` are the problems of the operation, beside those that follow from its access
    policy, method and path. Place the decorator next to the view, below its access policy.
    """

    def decorate(view: View) -> View:
        hints = get_type_hints(view, include_extras=True)
        responses = _response_types(hints.pop("return"))
        readers = {name: r for name, hint in hints.items() if (r := _reader(hint)) is not None}

        @wraps(view)
        def wrapper(**ids: object) -> object:
            return view(**ids, **{name: read() for name, read in readers.items()})

        registered = cast(View, wrapper) if readers else view
        _specs[registered] = OperationSpec(
            (getdoc(view) or "").split("\n\n")[0].replace("\n", " "),
            {name: hint for name, hint in hints.items() if name not in readers},
            _first_subclass(Body, hints),
            _first_subclass(Query, hints),
            responses,
            error_codes,
        )
        return registered

    return decorate


def operation_spec(view: Callable[..., Any]) -> OperationSpec | None:
    """Return the specification of a view; None if it is not an API operation."""
    return _specs.get(view)


def _reader(hint: object) -> Callable[[], BaseModel] | None:
    if isinstance(hint, type) and issubclass(hint, Body):
        return partial(read_body, hint)
    if isinstance(hint, type) and issubclass(hint, Query):
        return partial(read_query, hint)
    return None


Kind = TypeVar("Kind", Body, Query)


def _first_subclass(kind: type[Kind], hints: Mapping[str, object]) -> type[Kind] | None:
    return next((h for h in hints.values() if isinstance(h, type) and issubclass(h, kind)), None)


def _response_types(returned: object) -> dict[int, Any]:
    """Return the types by status, of `Shape` or of `tuple[Shape, Literal[200, 201], ...]`."""
    if get_origin(returned) is not tuple:
        return {200: returned}
    shape, statuses, *_ = get_args(returned)
    return dict.fromkeys(get_args(statuses), shape)
