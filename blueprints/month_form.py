"""What the form of a month shows: what is saved or was typed, the month before, what is wrong."""

from collections.abc import Mapping
from dataclasses import dataclass

from blueprints.errors import Errors
from blueprints.month_bodies import FIELDS, SEEN
from blueprints.words import number, reais
from dashboard.reporting import ReportedMonth

NOTE = "observacoes"
PROFIT = "lucro"
MONEY = ("faturamento", PROFIT)
LABELS = {
    "faturamento": "Faturamento (R$)",
    "lucro": "Lucro (R$)",
    "leads": "Leads",
    "procedimentos": "Procedimentos",
    "posts_feed": "Posts no feed",
    "stories": "Stories",
    NOTE: "Observações",
}
NOT_REPORTED = "sem registro"


@dataclass(frozen=True, slots=True)
class Field:
    """One input, as texts; `seen` is what was saved when the form was opened."""

    name: str
    label: str
    value: str
    seen: str
    before: str
    error: str | None

    @property
    def may_be_negative(self) -> bool:
        """Whether a minus sign must be typable, which numeric keypads of phones do not have."""
        return self.name == PROFIT


@dataclass(frozen=True, slots=True)
class Shown:
    """The two months that the form shows, each None where nothing was reported."""

    saved: ReportedMonth | None
    before: ReportedMonth | None


def fresh_fields(shown: Shown) -> list[Field]:
    """The inputs as they are when the form is opened."""
    saved = {name: _text(name, shown.saved) for name in LABELS}
    seen = {SEEN + name: text for name, text in saved.items()}
    return typed_fields(shown, saved | seen)


def typed_fields(shown: Shown, typed: Mapping[str, str], errors: Errors = ()) -> list[Field]:
    """The inputs as they came back, each with what is wrong about it."""
    told = {error["field"]: error["message"] for error in errors}
    return [
        Field(
            name=name,
            label=label,
            value=typed.get(name, ""),
            seen=typed.get(SEEN + name, ""),
            before=_text_before(name, shown.before),
            error=told.get(name),
        )
        for name, label in LABELS.items()
    ]


def is_blank(typed: Mapping[str, str]) -> bool:
    """Whether there is nothing in any input."""
    return not any(typed.get(field, "").strip() for field in FIELDS)


def _text(name: str, month: ReportedMonth | None) -> str:
    if month is None:
        return ""
    return (month.observacoes or "") if name == NOTE else number(getattr(month, name))


def _text_before(name: str, month: ReportedMonth | None) -> str:
    if month is None:
        return NOT_REPORTED
    return reais(getattr(month, name)) if name in MONEY else _text(name, month)
