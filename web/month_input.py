"""Reading a month's figures, from JSON or from a form."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from dashboard.months import FIGURES
from dashboard.periods import (
    EARLIEST_YEAR,
    MONTHS_PER_YEAR,
    Period,
    PeriodError,
    reportable_period,
)
from web.errors import InvalidInputError
from web.formatting import NumberFormatError, parse_whole_number
from web.services import services
from web.validation import PARTIAL_UPDATE, Amount, Body, Note, SignedAmount, validate_model

YEAR, MONTH = "int(max=9999)", "int(max=99)"  # larger numbers get the router's 404
Year = Annotated[int, Field(ge=EARLIEST_YEAR)]
MonthNumber = Annotated[int, Field(ge=1, le=MONTHS_PER_YEAR)]
FIELDS = (*FIGURES, "observacoes")
SEEN_PREFIX = "visto_"  # of the hidden fields with the values when the form was opened
FORM_INPUT = "by hand"  # validation context of forms, where numbers are typed texts
PERIOD_MESSAGES = {
    "unknown_month": "Informe um mês de 1 a 12.",
    "too_early": "Informe um ano a partir de 2000.",
    "in_the_future": "Este mês ainda não começou.",
}


def parse_typed_number(value: object, info: ValidationInfo) -> object:
    """Parse a number typed in a form; values from JSON stay as they are."""
    if info.context != FORM_INPUT or not isinstance(value, str):
        return value
    try:
        return parse_whole_number(value)
    except NumberFormatError as err:
        raise PydanticCustomError(err.kind, err.kind) from err


Figure = Annotated[Amount, BeforeValidator(parse_typed_number)]
Profit = Annotated[
    SignedAmount,
    BeforeValidator(parse_typed_number),
    Field(description="Negative in a month with a loss"),
]


class MonthReport(Body):
    """Any of a month's fields; omitted fields keep their values."""

    model_config = PARTIAL_UPDATE

    faturamento: Figure = 0
    lucro: Profit = 0
    posts_feed: Figure = 0
    stories: Figure = 0
    leads: Figure = 0
    procedimentos: Figure = 0
    observacoes: Note | None = None

    @model_validator(mode="after")
    def _require_a_field(self) -> "MonthReport":
        if not self.model_fields_set:
            raise PydanticCustomError("nothing", "nothing")
        return self

    def changes(self) -> dict[str, Any]:
        """Return the given fields with their new values."""
        return self.model_dump(exclude_unset=True)


def changed_fields(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields that the user has changed since the form was opened, checked.

    Unchanged fields are left out, because another request may have saved them meanwhile. Raises
    InvalidInputError, also for a number that was cleared: no number is not zero.
    """
    submitted = {field: _normalized_text(form, field) for field in FIELDS}
    changed = {f: v for f, v in submitted.items() if v != _normalized_text(form, SEEN_PREFIX + f)}
    return validate_model(MonthReport, changed, FORM_INPUT).changes() if changed else {}


def requested_period(ano: int, mes: int) -> Period:
    """Return the month of the URL; raises InvalidInputError for one that cannot be reported."""
    try:
        return reportable_period(ano, mes, now=services().now())
    except PeriodError as err:
        message = PERIOD_MESSAGES[err.reason]
        raise InvalidInputError([{"field": err.field, "message": message}]) from err


def _normalized_text(form: Mapping[str, str], name: str) -> str:
    return form.get(name, "").replace("\r\n", "\n").strip()
