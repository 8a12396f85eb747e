"""Reading JSON as RFC 8259 and JSON Schema understand it, and no deeper than anybody needs."""

import json

from flask import request

from blueprints.answers import FieldError
from blueprints.errors import InvalidInputError

DEEPEST = 20  # levels; our own bodies have one
NOT_JSON: list[FieldError] = [{"field": "", "message": "O conteúdo não é um JSON válido."}]
TOO_DEEP: list[FieldError] = [{"field": "", "message": f"O JSON passa de {DEEPEST} níveis."}]


def read_json() -> object:
    """The document in the request's body; an absent one counts as `{}`.

    Raises InvalidInputError for what is no JSON, or goes too deep.
    """
    content = request.get_data()
    if not content:
        return {}
    try:
        document: object = json.loads(content, parse_constant=_refuse, parse_float=_number)
    except RecursionError as err:
        raise InvalidInputError(TOO_DEEP) from err
    except ValueError as err:
        raise InvalidInputError(NOT_JSON) from err
    if _goes_deeper(document, DEEPEST):
        raise InvalidInputError(TOO_DEEP)
    return document


def _refuse(name: str) -> None:
    """Python reads NaN and Infinity, which are no JSON (RFC 8259, section 6)."""
    raise ValueError(name)


def _number(digits: str) -> float:
    """As JSON Schema counts: `12.0` is a whole number, however it is written."""
    number = float(digits)
    return int(number) if number.is_integer() else number


def _goes_deeper(document: object, levels: int) -> bool:
    """Whether there are more levels than that."""
    if not isinstance(document, dict | list):
        return False
    inner = document.values() if isinstance(document, dict) else document
    return levels == 0 or any(_goes_deeper(part, levels - 1) for part in inner)
