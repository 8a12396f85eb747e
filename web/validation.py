"""Validation of JSON bodies, form data and query strings, with an error in pt-BR for each field."""

import json
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Self, TypeVar

from flask import request
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError
from werkzeug.datastructures import MultiDict

from auth.identity import NAME_LENGTH, UNPRINTABLE, clean_url, fold_name
from core.email_address import WHITE_SPACE, FaultKind, code_point, find_fault
from provisioning.user_lists import SearchTerm
from web.errors import FieldError, InvalidInputError
from web.formatting import number
from web.services import services

MAX_DEPTH = 20  # levels; the bodies of this API have one
NOT_JSON = FieldError(field="", message="O conteúdo não é um JSON válido.")
TOO_DEEP = FieldError(field="", message=f"O JSON passa de {MAX_DEPTH} níveis.")


def read_json() -> object:
    """Return the JSON of the request's body, `{}` without one; refuse one nested too deeply."""
    content = request.get_data()
    if not content:
        return {}
    try:
        document: object = json.loads(
            content, parse_constant=_reject_constant, parse_float=_parse_float
        )
    except RecursionError as err:
        raise InvalidInputError([TOO_DEEP]) from err
    except ValueError as err:
        raise InvalidInputError([NOT_JSON]) from err
    if _is_deeper_than(document, MAX_DEPTH):
        raise InvalidInputError([TOO_DEEP])
    return document


def _reject_constant(name: str) -> None:
    """Reject NaN and Infinity, which Python reads but JSON does not have (RFC 8259, section 6)."""
    raise ValueError(name)


def _parse_float(literal: str) -> float:
    """Return an int for a number without fraction, as JSON Schema does for `12.0`."""
    number = float(literal)
    return int(number) if number.is_integer() else number


def _is_deeper_than(document: object, levels: int) -> bool:
    """Whether the document has more levels than that."""
    if not isinstance(document, dict | list):
        return False
    inner = document.values() if isinstance(document, dict) else document
    return levels == 0 or any(_is_deeper_than(part, levels - 1) for part in inner)


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
    "date": "Informe um dia como 2026-03-31.",
    "not_a_month": "Informe um mês como 2026-03.",
    "unknown_month": "Informe um mês de 1 a 12.",
    "too_early": "Informe um ano a partir de 2000.",
    "in_the_future": "Este mês ainda não começou.",
    "cursor": "O cursor não é desta ordem. Comece pela primeira página.",
}
MAX_NOTE_LENGTH = 5_000
MAX_TYPED_NAME_LENGTH = 1_000  # before white space is folded
SEPARATORS = "\x1c\x1d\x1e\x1f"  # white space in Python, control characters in Unicode
MAX_ERRORS = 50  # reported; a body may have thousands of unknown fields


class Body(BaseModel):
    """Base of all bodies: exact types, no unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _clean_name(value: str) -> str:
    """Return a name with white space folded; refuse control characters, and cut nothing."""
    if len(value) > MAX_TYPED_NAME_LENGTH:
        raise _error("name")
    for character in value:
        is_blank = character.isspace() and character not in SEPARATORS
        if unicodedata.category(character) in UNPRINTABLE and not is_blank:
            raise _error("name_control", code_point=code_point(character))
    folded = fold_name(value)
    if not 0 < len(folded) <= NAME_LENGTH:
        raise _error("name")
    return folded


def _clean_email(value: str) -> str:
    """Return an address as it was given, without surrounding white space."""
    fault = find_fault(value)
    if fault is None:
        return value.strip(WHITE_SPACE)
    if fault.kind in (FaultKind.INCOMPLETE, FaultKind.TOO_LONG):
        raise _error("email")
    kind = f"email_{fault.kind.name.lower()}"
    raise _error(kind, character=fault.character, code_point=fault.code_point)


def _clean_web_address(value: str) -> str:
    if clean_url(value) != value.strip():
        raise _error("url")
    return value.strip()


def _error(kind: str, **context: str) -> PydanticCustomError:
    """Return an error whose message is the one of MESSAGES with that name."""
    return PydanticCustomError(kind, kind, {**context})


def _clean_note(value: str) -> str | None:
    r"""Return text of several lines with `\n` as line break; None for blanks alone."""
    text = value.replace("\r\n", "\n")
    categories = {unicodedata.category(character) for character in text if character not in "\n\t"}
    if len(text.strip()) > MAX_NOTE_LENGTH or not categories.isdisjoint(("Cc", "Cs")):
        raise _error("note")
    return text.strip() or None


def _string_schema(pattern: str, description: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "description": description})


# The checks are stricter than the patterns of the API description.
Name = Annotated[str, AfterValidator(_clean_name), _string_schema(r"\S", "At most 255 characters")]
Email = Annotated[
    str,
    AfterValidator(_clean_email),
    _string_schema(
        r"""^\s*[^\s@<>()\[\]\\,;:"]+@[^\s@<>()\[\]\\,;:"]+\.[^\s@<>()\[\]\\,;:"]+\s*$""",
        "An address that can be verified: at most 320 characters, none of them invisible",
    ),
]
WebAddress = Annotated[
    str,
    AfterValidator(_clean_web_address),
    _string_schema(
        r"^\s*[Hh][Tt][Tt][Pp][Ss]?://[!#-&(-;=?-\[\]-~]+\s*$", "At most 500 characters"
    ),
]
Amount = Annotated[int, Field(ge=0, le=2_147_483_647)]
SignedAmount = Annotated[int, Field(ge=-2_147_483_648, le=2_147_483_647)]
Id = Annotated[int, Field(ge=1, le=2_147_483_647)]
Note = Annotated[
    str,
    AfterValidator(_clean_note),
    _string_schema(
        r"^([^\x00-\x08\x0b-\x1f\x7f-\x9f]|\r\n)*$", "Lines of text, at most 5,000 characters"
    ),
]


# A note that is not blank.
Reason = Annotated[str, AfterValidator(_clean_note), _string_schema(r"\S", "Why, in a sentence")]


def _describe_partial_update(schema: dict[str, Any]) -> None:
    """Describe that omitted fields keep their values: no defaults, at least one field."""
    schema["minProperties"] = 1
    for field in schema["properties"].values():
        field.pop("default", None)


class PartialUpdate(Body):
    """Base of bodies whose omitted fields keep their values; at least one must be given."""

    model_config = ConfigDict(json_schema_extra=_describe_partial_update)

    def changes(self) -> dict[str, Any]:
        """Return the given fields with their new values; a reason is none of them."""
        return self.model_dump(exclude_unset=True, exclude={"reason"})

    @model_validator(mode="after")
    def _require_a_change(self) -> Self:
        if not self.changes():
            raise _error("nothing")
        return self


class WithReason(Body):
    """An admin's change with an optional reason, which the audit log keeps."""

    reason: Note | None = None


Model = TypeVar("Model", bound=BaseModel)
# A field → the kind of an error → its message, instead of the one of MESSAGES.
FieldMessages = Mapping[str, Mapping[str, str]]


def validate_model(
    model: type[Model],
    content: object,
    context: str | None = None,
    messages: FieldMessages = MappingProxyType({}),
) -> Model:
    """Validate `content` against the model, with `context` for validators.

    Raises InvalidInputError with every invalid field, and with `messages` of its own for some.
    """
    try:
        return model.model_validate(content, context=context)
    except ValidationError as err:
        errors = err.errors(include_url=False, include_input=False)[:MAX_ERRORS]
        raise InvalidInputError([_field_error(error, messages) for error in errors]) from err


def _field_error(error: ErrorDetails, messages: FieldMessages) -> FieldError:
    field, kind = ".".join(str(part) for part in error["loc"]), error["type"]
    message = messages.get(field, {}).get(kind) or MESSAGES.get(kind, "Valor inválido.")
    context = error.get("ctx", {})
    numbers = {n: number(v) if v else "zero" for n, v in context.items() if isinstance(v, int)}
    return FieldError(field=field, message=message.format(**(context | numbers)))


MAX_PAGE_SIZE = 200
MAX_ID = 2_147_483_647
MAX_EVENT_ID = 2**53 - 1  # audit events have 64-bit ids; the largest exact integer in JSON
MAX_DIGITS = len(str(MAX_EVENT_ID))


class Query(BaseModel):
    """Base of all query strings: unknown parameters are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def _parse_digits(value: object) -> object:
    """Accept digits only, where Python would also read `+1_0`."""
    if not isinstance(value, str):
        return value
    if not (value.isascii() and value.isdecimal() and len(value) <= MAX_DIGITS):
        raise PydanticCustomError("int_type", "no number")
    return int(value)


def _blank_to_none(value: object) -> object:
    """Return None for blank text; NUL, which PostgreSQL cannot store, is removed."""
    return (value.replace("\x00", "").strip() or None) if isinstance(value, str) else value


CURSOR_DESCRIPTION = "`next_cursor` of the previous page"

Digits = BeforeValidator(_parse_digits)
IdCursor = Annotated[int, Field(ge=0, le=MAX_ID), Digits]
EventCursor = Annotated[int, Field(ge=0, le=MAX_EVENT_ID), Digits]
Count = Annotated[int, Field(ge=1, le=MAX_ID), Digits]
Limit = Annotated[
    Count,
    Field(description=f"Larger values count as {MAX_PAGE_SIZE}"),
    AfterValidator(lambda limit: min(limit, MAX_PAGE_SIZE)),
]
Text = Annotated[str | None, BeforeValidator(_blank_to_none), WithJsonSchema({"type": "string"})]


class Paging(Query):
    """A page of a list: at most `limit` rows after the key `cursor`."""

    cursor: Annotated[IdCursor, Field(description=CURSOR_DESCRIPTION)] = 0
    limit: Limit = MAX_PAGE_SIZE


class Search(Paging):
    """Rows that a search finds."""

    q: Annotated[Text, Field(description="Words of name or address, in any order, or a number")] = (
        None
    )


def search_term(text: str | None) -> SearchTerm | None:
    """Return the term for a typed text; None for no text.

    A client can choose its request id, so a reference code never replaces the other matches.
    """
    if text is None:
        return None
    return SearchTerm(text, services().provisioning.contexts.find_user_of_reference(text))


def read_query(model: type[Model], parameters: MultiDict[str, str] | None = None) -> Model:
    """Validate the query string, or these parameters of a form, against the model.

    A blank parameter counts as absent. Raises InvalidInputError with every invalid parameter; a
    repeated one is invalid, because its values may contradict each other.
    """
    given = request.args if parameters is None else parameters
    values = {name: texts for name, texts in given.lists() if any(texts)}
    return validate_model(
        model, {n: texts[0] if len(texts) == 1 else texts for n, texts in values.items()}
    )


ID_CONVERTER = f"int(min=1, max={MAX_ID})"  # other ids get the router's 404
