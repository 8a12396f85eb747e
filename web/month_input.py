"""Reading months and their figures, from JSON, forms and URLs."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

from flask import request
from pydantic import BeforeValidator, Field, PlainValidator, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from dashboard.periods import (
    EARLIEST_YEAR,
    MONTHS_PER_YEAR,
    Period,
    PeriodError,
    parse_period,
    reportable_period,
)
from dashboard.score import MEASURES, MONEY, REVENUE
from models.people import FIGURES
from web.errors import InvalidInputError
from web.formatting import NumberFormatError, parse_amount, parse_whole_number
from web.services import services
from web.validation import (
    MESSAGES,
    Amount,
    Note,
    PartialUpdate,
    Query,
    SignedAmount,
    validate_model,
)

YEAR, MONTH = "int(max=9999)", "int(max=99)"  # larger numbers get the router's 404
Year = Annotated[int, Field(ge=EARLIEST_YEAR)]
MonthNumber = Annotated[int, Field(ge=1, le=MONTHS_PER_YEAR)]
FIELDS = (*FIGURES, "observacoes")
SEEN_PREFIX = "visto_"  # of the hidden fields with the values when the form was opened
FORM_INPUT = "by hand"  # validation context of forms, where numbers are typed texts
COUNT = "Digite um número inteiro, por exemplo 25. Se não teve nenhum, digite 0."
COUNT_MESSAGES = {
    "numeral": COUNT,
    "cents": COUNT,
    "greater_than_equal": "O número não pode ser negativo. Se não teve nenhum, digite 0.",
    "less_than_equal": "Digite um número até {le}.",
}
FORM_MESSAGES = {
    "faturamento": {
        "numeral": "Digite o valor em reais, por exemplo 12.500. Se não faturou, digite 0.",
        "greater_than_equal": (
            "O faturamento não pode ser negativo. Um prejuízo vai no lucro, com o sinal de menos."
        ),
        "less_than_equal": "Digite um valor até {le}.",
    },
    "lucro": {
        "numeral": "Digite o valor em reais, por exemplo 4.800. Um prejuízo é -1.500.",
        "greater_than_equal": "Digite um valor a partir de {ge}.",
        "less_than_equal": "Digite um valor até {le}.",
    },
    **dict.fromkeys(("leads", "procedimentos", "posts_feed", "stories"), COUNT_MESSAGES),
}


def _parse_typed(parse: Callable[[str], int], value: object, info: ValidationInfo) -> object:
    """Parse a number typed in a form; values from JSON stay as they are."""
    if info.context != FORM_INPUT or not isinstance(value, str):
        return value
    try:
        return parse(value)
    except NumberFormatError as err:
        raise PydanticCustomError(err.kind, err.kind) from err


parse_typed_number = partial(_parse_typed, parse_whole_number)
TYPED_MONEY = BeforeValidator(partial(_parse_typed, parse_amount))  # its cents are rounded
Figure = Annotated[Amount, BeforeValidator(parse_typed_number)]
Revenue = Annotated[Amount, TYPED_MONEY]
Profit = Annotated[SignedAmount, TYPED_MONEY, Field(description="Negative in a month with a loss")]


class MonthReport(PartialUpdate):
    """Any of a month's fields; omitted fields keep their values.

    The fields have the order of the form, so that its errors have it too.
    """

    faturamento: Revenue = 0
    lucro: Profit = 0
    leads: Figure = 0
    procedimentos: Figure = 0
    posts_feed: Figure = 0
    stories: Figure = 0
    observacoes: Note | None = None


def changed_fields(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields that the user has changed since the form was opened, checked.

    Unchanged fields are left out, because another request may have saved them meanwhile. Raises
    InvalidInputError, also for a number that was cleared: no number is not zero.
    """
    submitted = {field: _normalized_text(form, field) for field in FIELDS}
    changed = {f: v for f, v in submitted.items() if v != _normalized_text(form, SEEN_PREFIX + f)}
    if not changed:
        return {}
    return validate_model(MonthReport, changed, FORM_INPUT, FORM_MESSAGES).changes()


def rounded_amounts(form: Mapping[str, str], changes: Mapping[str, Any]) -> list[str]:
    """Return the changed amounts whose typed cents were rounded."""
    return [name for name in MONEY if name in changes and _has_cents(form.get(name, ""))]


def _has_cents(text: str) -> bool:
    try:
        parse_whole_number(text)
    except NumberFormatError as err:
        return err.kind == "cents"
    return False


def requested_period(ano: int, mes: int) -> Period:
    """Return the month of the URL; raises InvalidInputError for one that cannot be reported."""
    try:
        return reportable_period(ano, mes, now=services().now())
    except PeriodError as err:
        raise InvalidInputError([{"field": err.field, "message": MESSAGES[err.reason]}]) from err


def _parse_month(value: object) -> Period | None:
    """Return the month of a typed text; None for a blank one. A repeated parameter is a list."""
    text = value.strip() if isinstance(value, str) else "repeated"
    try:
        return parse_period(text, now=services().now()) if text else None
    except PeriodError as err:
        raise PydanticCustomError(err.reason, err.reason) from err


# A month such as `2026-03`; None for a blank one.
TypedMonth = Annotated[
    Period | None,
    PlainValidator(_parse_month),
    WithJsonSchema({"type": "string"}),
    Field(description="`2026-03`"),
]


class MonthQuery(Query):
    """The month of a page or a form."""

    mes: TypedMonth = None


def selected_measure() -> str:
    """Return the measure of the query parameter `medida`; the revenue for an unknown one."""
    measure = request.args.get("medida", REVENUE)
    return measure if measure in MEASURES else REVENUE


def _normalized_text(form: Mapping[str, str], name: str) -> str:
    return form.get(name, "").replace("\r\n", "\n").strip()
