"""Reading JSON bodies: what does not fit is named, field by field, in the reader's language."""

import json
from typing import TypeVar

from flask import request
from pydantic import BaseModel, ConfigDict, ValidationError

from blueprints.errors import InvalidInputError

MESSAGES = {
    "missing": "Campo obrigatório.",
    "extra_forbidden": "Campo desconhecido.",
    "bool_type": "Informe verdadeiro ou falso.",
    "int_type": "Informe um número inteiro.",
    "string_type": "Informe um texto.",
    "model_type": "Envie um objeto JSON.",
}
NOT_JSON = [{"field": "", "message": "O conteúdo não é um JSON válido."}]


class Body(BaseModel):
    """Base of all bodies: exact types, no unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


BodyType = TypeVar("BodyType", bound=Body)


def read_body(model: type[BodyType]) -> BodyType:
    """Validate the request's JSON against the model; an absent body counts as `{}`.

    Raises InvalidInputError naming every field that does not fit.
    """
    try:
        return model.model_validate(_json())
    except ValidationError as err:
        raise InvalidInputError(
            [
                {
                    "field": ".".join(str(part) for part in error["loc"]),
                    "message": MESSAGES.get(error["type"], "Valor inválido."),
                }
                for error in err.errors(include_url=False, include_input=False)
            ]
        ) from err


def _json() -> object:
    content = request.get_data()
    if not content:
        return {}
    try:
        document: object = json.loads(content)
    except (ValueError, RecursionError) as err:
        raise InvalidInputError(NOT_JSON) from err
    return document
