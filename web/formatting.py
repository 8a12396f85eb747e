"""Formatting and parsing of numbers, amounts and dates in Brazilian Portuguese."""

import re
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal

from flask import Flask

from dashboard.chart import Bar
from dashboard.periods import BRASILIA
from dashboard.score import MEASURES, MONEY, PROFIT, REVENUE

MAX_LENGTH = 40
# A typed minus, or what word processors replace it by: hyphens, an en dash, a minus sign.
MINUS = r"[-\u2010-\u2013\u2212\ufe63\uff0d]"
# The sign comes before or after the currency, never both.
NUMBER_PATTERN = re.compile(
    rf"(?P<sign>(?:{MINUS} ?)?(?:R\$ ?)?|R\$ ?{MINUS} ?)"
    r"(?P<whole>\d{1,3}(?:\.\d{3})+|\d{1,3}(?: \d{3})+|\d+)(?:,(?P<cents>\d{1,2}))?",
    re.ASCII,
)


class NumberFormatError(ValueError):
    """A text that is not a whole number; `kind` is `numeral`, or `cents` for a fraction."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def parse_whole_number(text: str) -> int:
    """Parse a whole number: «R$ 12.500,00», «12 500» and «12500» are 12500.

    A point is a thousands separator only. «-500», «R$ -500» and «-R$ 500» are -500.

    Raises NumberFormatError for anything else, also for «1,000», which means one in Brazil and a
    thousand elsewhere.
    """
    value = _parse_decimal(text)
    if value != int(value):
        raise NumberFormatError("cents")
    return int(value)


def parse_amount(text: str) -> int:
    """As `parse_whole_number`, but cents are rounded: «12.345,67» is 12346, «-0,50» is -1."""
    return int(_parse_decimal(text).to_integral_value(ROUND_HALF_UP))


def _parse_decimal(text: str) -> Decimal:
    plain = " ".join(text.split())
    match = NUMBER_PATTERN.fullmatch(plain) if len(plain) <= MAX_LENGTH else None
    if match is None:
        raise NumberFormatError("numeral")
    digits = match["whole"].replace(".", "").replace(" ", "")
    value = Decimal(f"{digits}.{match['cents'] or 0}")
    return value.copy_negate() if re.search(MINUS, match["sign"]) else value


MONTHS = "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro"
MISSING = "n/d"
NOT_GIVEN = "sem registro"
MAX_PERCENT = 999  # larger figures only show that the first month was small
TENTHS_BELOW = 10  # seconds
NO_SCORE = ("none", "sem pontos ainda")
# Least points, tone and text: 80 points for meeting every goal, 120 at most.
SCORES = (
    (100, "top", "mês excepcional"),
    (80, "good", "ótimo mês"),
    (60, "near", "bom mês"),
    (30, "going", "no caminho"),
    (1, "start", "no começo"),
)


def register_filters(app: Flask) -> None:
    """Register the template filters."""
    for template_filter in (
        reais,
        number,
        percent,
        month_name,
        short_month,
        month_letters,
        day,
        scale_mark,
        figure,
        moment,
        seconds,
        bar_text,
        first_name,
        initials,
        join_words,
        score_label,
    ):
        app.add_template_filter(template_filter)


def number(value: int) -> str:
    """1234567 → «1.234.567»."""
    return f"{value:,}".replace(",", ".")


def reais(value: int | None) -> str:
    """16000 → «R$ 16.000», with a non-breaking space; None → «n/d»."""
    if value is None:
        return MISSING
    sign = "-" if value < 0 else ""
    return f"{sign}R$\u00a0{number(abs(value))}"


def compact_reais(value: int) -> str:
    """2500 → «R$ 2,5 mil», for round amounts beside a chart."""
    sign = "-" if value < 0 else ""
    for size, name in ((1_000_000_000, "bi"), (1_000_000, "mi"), (1_000, "mil")):
        if abs(value) >= size:
            return f"{sign}R$\u00a0{abs(value) / size:g}\u00a0{name}".replace(".", ",")
    return reais(value)


def percent(value: int | None) -> str:
    """12 → «+12%», None → «n/d», 1599900 → «acima de 999%»."""
    if value is None:
        return MISSING
    if value > MAX_PERCENT:
        return f"acima de {MAX_PERCENT}%"
    return f"{value:+d}%" if value else "0%"


def month_name(mes: int, ano: int) -> str:
    """3, 2026 → «março de 2026»."""
    return f"{MONTHS.split()[mes - 1]} de {ano}"


def short_month(mes: int, ano: int) -> str:
    """3, 2026 → «mar. 2026»; «maio» is not shortened."""
    name = MONTHS.split()[mes - 1]
    return f"{name if len(name) <= 4 else name[:3] + '.'} {ano}"


def month_letters(mes: int) -> str:
    """3 → «mar», for narrow columns."""
    return MONTHS.split()[mes - 1][:3]


def bar_text(bar: Bar, measure: str = REVENUE) -> str:
    """«março de 2026: faturamento R$ 17.600, lucro R$ 7.040, meta R$ 16.000»."""
    name = month_name(bar.period.mes, bar.period.ano)
    if bar.month is None:
        return f"{name}: {NOT_GIVEN}"
    parts = []
    if measure != PROFIT:
        is_given, value = bar.month.has(measure), getattr(bar.month, measure)
        parts.append(
            f"{MEASURES[measure].lower()} {figure(value, measure) if is_given else NOT_GIVEN}"
        )
    if measure in MONEY and not bar.month.has(PROFIT):
        parts.append(f"lucro {NOT_GIVEN}")
    elif measure in MONEY:
        # Many screen readers skip a minus sign.
        result = "prejuízo" if bar.month.lucro < 0 else "lucro"
        parts.append(f"{result} {reais(abs(bar.month.lucro))}")
    if bar.goal is not None:
        parts.append(f"meta {figure(getattr(bar.month.goals, measure), measure)}")
    return f"{name}: {', '.join(parts)}"


def figure(value: int, measure: str) -> str:
    """16000, «faturamento» → «R$ 16.000»; 50, «leads» → «50»."""
    return reais(value) if measure in MONEY else number(value)


def scale_mark(value: int, measure: str) -> str:
    """Return a value of the chart's scale."""
    return compact_reais(value) if measure in MONEY else number(value)


def day(value: datetime) -> str:
    """«10/03/2026», in the time zone of Brasília."""
    return value.astimezone(BRASILIA).strftime("%d/%m/%Y")


def moment(value: datetime) -> str:
    """«10/03/2026, às 09h00», in the time zone of Brasília."""
    return value.astimezone(BRASILIA).strftime("%d/%m/%Y, às %Hh%M")


def seconds(value: float | None) -> str:
    """Return a duration in its largest fitting unit: «0,3 s», «4 min», «2 dias»."""
    if value is None:
        return MISSING
    for size, name in ((86_400, "dias"), (3_600, "h"), (60, "min")):
        if value >= 2 * size:
            return f"{value // size:.0f} {name}"
    return f"{value:.1f} s".replace(".", ",") if value < TENTHS_BELOW else f"{value:.0f} s"


def first_name(name: str) -> str:
    """«Bia Nunes» → «Bia»."""
    return next(iter(name.split()), name)


def initials(name: str) -> str:
    """«Bia dos Santos Nunes» → «BN»."""
    words = name.split() or ["?"]
    return (words[0][0] + (words[-1][0] if len(words) > 1 else "")).upper()


def plain_text(text: str) -> str:
    """Return a text in lower case and without accents."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def join_words(words: Sequence[str], conjunction: str = "e") -> str:
    """«leads», «posts», «stories» → «leads, posts e stories»."""
    return f" {conjunction} ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def score_label(score: int) -> tuple[str, str]:
    """80 → the name of the style and «ótimo mês»."""
    return next(((tone, word) for least, tone, word in SCORES if score >= least), NO_SCORE)
