"""Reading JSON bodies: what does not fit is named, field by field, in the reader's language."""

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Generic, TypeVar

from flask import request
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from auth.identity import NAME_LENGTH, UNPRINTABLE, clean_url, fold_name
from core.email_address import WHITE_SPACE, AddressFault, FaultKind, code_point, find_fault
from web.errors import InvalidInputError
from web.problem_responses import FieldError

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


class WithReason(Body):
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


ID = f"int(min=1, max={LARGEST_ID})"  # the router's own 404 for what no row could have

Row = TypeVar("Row")
Item = TypeVar("Item", bound=Mapping[str, Any])


class Items(TypedDict, Generic[Item]):
    """A list that is told as a whole."""

    items: list[Item]


class Listed(Items[Item]):
    """A page of a list; null where the list has ended."""

    next_cursor: str | None


def listed(rows: Sequence[Row], shape: Callable[[Row], Item], *, limit: int) -> Listed[Item]:
    """The items of a page; the cursor of the next one is the last item's id."""
    items = [shape(row) for row in rows]
    is_full = len(items) == limit
    return {"items": items, "next_cursor": str(items[-1]["id"]) if is_full else None}
