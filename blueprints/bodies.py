"""Reading JSON bodies: what does not fit is named, field by field, in the reader's language."""

import unicodedata
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from blueprints.answers import FieldError
from blueprints.errors import InvalidInputError
from blueprints.json_reading import read_json
from provisioning.identity import ADDRESS, clean_email, clean_name, clean_url

MESSAGES = {
    "missing": "Campo obrigatório.",
    "extra_forbidden": "Campo desconhecido.",
    "bool_type": "Informe verdadeiro ou falso.",
    "int_type": "Informe um número inteiro.",
    "string_type": "Informe um texto.",
    "name": "Informe um nome com até 255 caracteres.",
    "email": "Informe um e-mail válido, com até 320 caracteres.",
    "url": "Informe um endereço que comece com http:// ou https://, com até 500 caracteres.",
    "literal_error": "Escolha um dos valores permitidos.",
    "enum": "Escolha um dos valores permitidos.",
    "greater_than_equal": "Informe {ge} ou um número maior.",
    "less_than_equal": "Informe no máximo {le}.",
    "model_type": "Envie um objeto JSON.",
    "note": "Escreva até 5.000 caracteres, sem caracteres de controle.",
    "numeral": "Informe um número inteiro, como 12.500.",
    "cents": "Informe um valor inteiro, sem centavos.",
    "nothing": "Informe ao menos um campo.",
}
LONGEST_NOTE = 5_000
MOST_FAULTS = 50  # are told; who sends thousands of unknown fields gets no answer of that size


class Body(BaseModel):
    """Base of all bodies: exact types, no unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _checked(clean: Callable[[object], str | None], kind: str) -> AfterValidator:
    """Accept what survives its cleaning unchanged, but for blanks around it.

    The cleaning knows more than a pattern can say, so that a description promises a little more.
    """

    def check(value: str) -> str:
        if clean(value) != value.strip():
            raise PydanticCustomError(kind, kind)
        return value.strip()

    return AfterValidator(check)


def _note(value: str) -> str | None:
    """Plain text of several lines, as browsers and programs send them; blanks alone are nothing."""
    text = value.replace("\r\n", "\n")
    if len(text.strip()) > LONGEST_NOTE or any(_is_control(character) for character in text):
        raise PydanticCustomError("note", "note")
    return text.strip() or None


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t"


def _like(pattern: str, description: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "description": description})


Name = Annotated[str, _checked(clean_name, "name"), _like(r"\S", "At most 255 characters")]
Email = Annotated[
    str,
    _checked(clean_email, "email"),
    _like(rf"^\s*{ADDRESS.pattern}\s*$", "At most 320 characters"),
]
WebAddress = Annotated[
    str,
    _checked(clean_url, "url"),
    _like(
        r"^\s*[Hh][Tt][Tt][Pp][Ss]?://[!#-&(-;=?-\[\]-~]+\s*$",
        "At most 500 characters",
    ),
]
Amount = Annotated[int, Field(ge=0, le=2_147_483_647)]
SignedAmount = Annotated[int, Field(ge=-2_147_483_648, le=2_147_483_647)]
Id = Annotated[int, Field(ge=1, le=2_147_483_647)]
Note = Annotated[
    str,
    AfterValidator(_note),
    _like(r"^([^\x00-\x08\x0b-\x1f\x7f-\x9f]|\r\n)*$", "Lines of text, at most 5,000 characters"),
]


def _stays(schema: dict[str, Any]) -> None:
    """Describe that what is left out stays: no default counts, and something must be there."""
    schema["minProperties"] = 1
    for field in schema["properties"].values():
        field.pop("default", None)


LEFT_OUT_STAYS = ConfigDict(json_schema_extra=_stays)


class Because(Body):
    """An admin's change may say why; the reason goes on record."""

    reason: Note | None = None


BodyType = TypeVar("BodyType", bound=Body)
Model = TypeVar("Model", bound=BaseModel)


def read_body(model: type[BodyType]) -> BodyType:
    """Validate the request's JSON against the model; an absent body counts as `{}`.

    Raises InvalidInputError naming every field that does not fit.
    """
    return checked(model, read_json())


def checked(model: type[Model], content: object, manner: str | None = None) -> Model:
    """Validate what was sent; fields may heed the manner of it. Raises as `read_body` does."""
    try:
        return model.model_validate(content, context=manner)
    except ValidationError as err:
        raise InvalidInputError(
            [
                FieldError(
                    field=".".join(str(part) for part in error["loc"]),
                    message=_message(error["type"], error.get("ctx", {})),
                )
                for error in err.errors(include_url=False, include_input=False)[:MOST_FAULTS]
            ]
        ) from err


def _message(kind: str, bounds: Mapping[str, Any]) -> str:
    told = {name: _numeral(bound) for name, bound in bounds.items() if isinstance(bound, int)}
    return MESSAGES.get(kind, "Valor inválido.").format(**told)


def _numeral(number: int) -> str:
    return f"{number:,}".replace(",", ".") if number else "zero"
