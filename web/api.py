"""What a call takes and what it answers: the signature of its view says so, once for everybody.

The type checker holds the view to it, requests are read by it, and the description is made of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, wraps
from inspect import getdoc
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from web.validation import Body, Query, read_body, read_query

View = TypeVar("View", bound=Callable[..., Any])

Done = tuple[Literal[""], Literal[204]]  # the answer of a call that has nothing to tell


@dataclass(frozen=True, slots=True)
class OperationSpec:
    """What is known of a call: its words, its ids, its models, its answers and its refusals.

    `answers` are the types by status; `codes` those refusals that no rule can tell.
    """

    summary: str
    ids: Mapping[str, Any]
    body: type[Body] | None
    query: type[Query] | None
    answers: Mapping[int, Any]
    codes: tuple[str, ...]


_specs: dict[Callable[..., Any], OperationSpec] = {}


def api_operation(*codes: str) -> Callable[[View], View]:
    """Have a view's signature describe it; bodies and queries are read and handed to it.

    `codes` are the problems that it answers with, beside those that follow from its stance, method
    and address. Stands next to the view, below its stance.
    """

    def describe(view: View) -> View:
        hints = get_type_hints(view, include_extras=True)
        answers = _answers(hints.pop("return"))
        readers = {name: r for name, hint in hints.items() if (r := _reader(hint)) is not None}

        @wraps(view)
        def handed(**ids: object) -> object:
            return view(**ids, **{name: read() for name, read in readers.items()})

        _specs[handed] = OperationSpec(
            (getdoc(view) or "").split("\n\n")[0].replace("\n", " "),
            {name: hint for name, hint in hints.items() if name not in readers},
            _of_kind(Body, hints),
            _of_kind(Query, hints),
            answers,
            codes,
        )
        return cast(View, handed)

    return describe


def spec_of(view: Callable[..., Any]) -> OperationSpec | None:
    """What a view says about itself, if anything."""
    return _specs.get(view)


def _reader(hint: object) -> Callable[[], BaseModel] | None:
    if isinstance(hint, type) and issubclass(hint, Body):
        return partial(read_body, hint)
    if isinstance(hint, type) and issubclass(hint, Query):
        return partial(read_query, hint)
    return None


Kind = TypeVar("Kind", Body, Query)


def _of_kind(kind: type[Kind], hints: Mapping[str, object]) -> type[Kind] | None:
    return next((h for h in hints.values() if isinstance(h, type) and issubclass(h, kind)), None)


def _answers(returned: object) -> dict[int, Any]:
    """Types by status: of `Shape` alone, or of `tuple[Shape, Literal[200, 201], ...]`."""
    if get_origin(returned) is not tuple:
        return {200: returned}
    shape, statuses, *_ = get_args(returned)
    return dict.fromkeys(get_args(statuses), shape)
