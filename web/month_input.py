"""What may be said about a month, by a program in JSON or by a person in a form."""

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
from web.formatting import NumeralError, whole_number
from web.services import services
from web.validation import LEFT_OUT_STAYS, Amount, Body, Note, SignedAmount, checked

YEAR, MONTH = "int(max=9999)", "int(max=99)"  # beyond them there is no such page
Year = Annotated[int, Field(ge=EARLIEST_YEAR)]
MonthNumber = Annotated[int, Field(ge=1, le=MONTHS_PER_YEAR)]
FIELDS = (*FIGURES, "observacoes")
SEEN = "visto_"  # the hidden field that tells what a form showed when it was opened
BY_HAND = "by hand"  # typed by a person, so that numbers are texts
PERIOD_MESSAGES = {
    "unknown_month": "Informe um mês de 1 a 12.",
    "too_early": "Informe um ano a partir de 2000.",
    "in_the_future": "Este mês ainda não começou.",
}


def as_written(value: object, info: ValidationInfo) -> object:
    """Read what a person has typed as a whole number; what a program sends stays as it is."""
    if info.context != BY_HAND or not isinstance(value, str):
        return value
    try:
        return whole_number(value)
    except NumeralError as err:
        raise PydanticCustomError(err.kind, err.kind) from err


Figure = Annotated[Amount, BeforeValidator(as_written)]
Profit = Annotated[
    SignedAmount, BeforeValidator(as_written), Field(description="Negative in a month with a loss")
]


class MonthReport(Body):
    """Any of a month's fields; what is left out stays as it is."""

    model_config = LEFT_OUT_STAYS

    faturamento: Figure = 0
    lucro: Profit = 0
    posts_feed: Figure = 0
    stories: Figure = 0
    leads: Figure = 0
    procedimentos: Figure = 0
    observacoes: Note | None = None

    @model_validator(mode="after")
    def _refuse_nothing(self) -> "MonthReport":
        if not self.model_fields_set:
            raise PydanticCustomError("nothing", "nothing")
        return self

    def changes(self) -> dict[str, Any]:
        """The fields that were given, with their new values."""
        return self.model_dump(exclude_unset=True)


def changes_of(form: Mapping[str, str]) -> dict[str, Any]:
    """The fields that the person has changed since the form was opened, checked.

    What was only shown to them is left alone: somebody else may have saved it meanwhile. Raises
    InvalidInputError, also for a number that was taken away: none is not the same as zero.
    """
    given = {field: _plain(form, field) for field in FIELDS}
    changed = {f: v for f, v in given.items() if v != _plain(form, SEEN + f)}
    return checked(MonthReport, changed, BY_HAND).changes() if changed else {}


def requested_period(ano: int, mes: int) -> Period:
    """The month in the address; raises InvalidInputError for one that cannot be reported."""
    try:
        return reportable_period(ano, mes, now=services().now())
    except PeriodError as err:
        message = PERIOD_MESSAGES[err.reason]
        raise InvalidInputError([{"field": err.field, "message": message}]) from err


def _plain(form: Mapping[str, str], name: str) -> str:
    return form.get(name, "").replace("\r\n", "\n").strip()
