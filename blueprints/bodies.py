"""Reading JSON bodies: what does not fit is named, field by field, in the reader's language."""

import unicodedata
from collections.abc import Mapping
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
from core.email_address import WHITE_SPACE, AddressFault, FaultKind, code_point, find_fault
from provisioning.identity import NAME_LENGTH, UNPRINTABLE, clean_url, fold_name

MESSAGES = {
    "missing": "Campo obrigatório.",
    "extra_forbidden": "Campo desconhecido.",
    "bool_type": "Informe verdadeiro ou falso.",
    "int_type": "Informe um número inteiro.",
    "string_type": "Informe um texto.",
    "name": "Informe um nome com até 255 caracteres.",
    "name_control": "O nome contém um caractere de controle ({code_point}). Apague-o.",
    "email": "Informe um e-mail válido, com até 320 caracteres.",
    "email_scheme": "Informe só o e-mail, sem «mailto:» na frente.",
    "email_control": "O e-mail contém um caractere de controle ({code_point}). Apague-o.",
    "email_invisible": (
        "O e-mail contém um caractere invisível ({code_point}). Apague tudo e digite-o de novo."
    ),
    "email_white_space": "O e-mail contém um espaço em branco ({code_point}). Apague-o.",
    "email_forbidden": (
        "O e-mail contém «{character}» ({code_point}), que não faz parte de um endereço."
    ),
    "email_end": "O e-mail termina com «{character}» ({code_point}). Apague esse sinal.",
    "email_several_at": "O e-mail tem mais de um «@».",
    "email_domain": "O domínio do e-mail, depois do «@», não está completo.",
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
LONGEST_WRITTEN_NAME = 1_000  # with white space that is folded
SEPARATORS = "\x1c\x1d\x1e\x1f"  # white space to Python, control characters to people
MOST_FAULTS = 50  # are told; who sends thousands of unknown fields gets no answer of that size


class Body(BaseModel):
    """Base of all bodies: exact types, no unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _name(value: str) -> str:
    """A name with white space of every kind folded to one blank, and without invisible characters.

    A control character is refused, and a name that is too long is not cut.
    """
    if len(value) > LONGEST_WRITTEN_NAME:
        raise _error("name")
    if found := next(filter(_is_unprintable, value), None):
        raise _error("name_control", code_point=code_point(found))
    folded = fold_name(value)
    if not 0 < len(folded) <= NAME_LENGTH:
        raise _error("name")
    return folded


def _is_unprintable(character: str) -> bool:
    is_blank = character.isspace() and character not in SEPARATORS
    return unicodedata.category(character) in UNPRINTABLE and not is_blank


def _email(value: str) -> str:
    """An address as it was given, but for white space around it."""
    if fault := find_fault(value):
        raise _email_error(fault)
    return value.strip(WHITE_SPACE)


def _email_error(fault: AddressFault) -> PydanticCustomError:
    if fault.kind in (FaultKind.INCOMPLETE, FaultKind.TOO_LONG):
        return _error("email")
    kind = f"email_{fault.kind.name.lower()}"
    return _error(kind, character=fault.character, code_point=fault.code_point)


def _web_address(value: str) -> str:
    if clean_url(value) != value.strip():
        raise _error("url")
    return value.strip()


def _error(kind: str, **context: str) -> PydanticCustomError:
    """An error whose message is the one of MESSAGES with that name."""
    return PydanticCustomError(kind, kind, {**context})


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


# The checks know more than a pattern can say, so that a description promises a little more.
Name = Annotated[str, AfterValidator(_name), _like(r"\S", "At most 255 characters")]
Email = Annotated[
    str,
    AfterValidator(_email),
    _like(
        r"""^\s*[^\s@<>()\[\]\\,;:"]+@[^\s@<>()\[\]\\,;:"]+\.[^\s@<>()\[\]\\,;:"]+\s*$""",
        "An address that can be verified: at most 320 characters, none of them invisible",
    ),
]
WebAddress = Annotated[
    str,
    AfterValidator(_web_address),
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


def _message(kind: str, context: Mapping[str, Any]) -> str:
    values = {n: _numeral(v) if isinstance(v, int) else v for n, v in context.items()}
    return MESSAGES.get(kind, "Valor inválido.").format(**values)


def _numeral(number: int) -> str:
    return f"{number:,}".replace(",", ".") if number else "zero"
