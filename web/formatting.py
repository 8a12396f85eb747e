"""How templates write numbers and months in Brazilian Portuguese."""

import re
from datetime import datetime

from flask import Flask

from dashboard.chart import Bar
from dashboard.periods import BRASILIA

LONGEST = 40
# A minus as it is typed, or as word processors replace it: hyphens, an en dash, a minus sign.
MINUS = r"[-\u2010-\u2013\u2212\ufe63\uff0d]"
# The sign stands before or after the currency, never on both sides.
NUMERAL = re.compile(
    rf"(?P<sign>(?:{MINUS} ?)?(?:R\$ ?)?|R\$ ?{MINUS} ?)"
    r"(?P<whole>\d{1,3}(?:\.\d{3})+|\d{1,3}(?: \d{3})+|\d+)(?:,(?P<cents>\d{1,2}))?",
    re.ASCII,
)


class NumeralError(ValueError):
    """A text that is no whole number; `kind` is `numeral`, or `cents` for a fraction."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def whole_number(text: str) -> int:
    """«R$ 12.500,00», «12 500» and «12500» are 12500; a point stands before thousands only.

    «-500», «R$ -500» and «-R$ 500» are -500.

    Raises NumeralError for anything else, also for «1,000», which means one thing in Brazil and
    another elsewhere.
    """
    plain = " ".join(text.split())
    match = NUMERAL.fullmatch(plain) if len(plain) <= LONGEST else None
    if match is None:
        raise NumeralError("numeral")
    if int(match["cents"] or 0):
        raise NumeralError("cents")
    digits = match["whole"].replace(".", "").replace(" ", "")
    return -int(digits) if re.search(MINUS, match["sign"]) else int(digits)


MONTHS = "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro"
MISSING = "n/d"
LARGEST_PERCENT = 999  # beyond, a figure says more about its first month than about growth
PRECISE = 10  # seconds; up to there a tenth matters
NO_SCORE = ("none", "sem pontos ainda")
# From how many points on which tone and word: every goal met makes 80, and 120 is the most.
SCORES = (
    (100, "top", "mês excepcional"),
    (80, "good", "ótimo mês"),
    (60, "near", "bom mês"),
    (30, "going", "no caminho"),
    (1, "start", "no começo"),
)


def register_filters(app: Flask) -> None:
    """Give the templates their filters."""
    for word in (
        *(reais, compact_reais, number, percent, month_name, short_month, month_letters, moment),
        seconds,
        *(bar_text, first_name, initials, score_tone, score_word),
    ):
        app.add_template_filter(word)


def number(value: int) -> str:
    """1234567 → «1.234.567»."""
    return f"{value:,}".replace(",", ".")


def reais(value: int | None) -> str:
    """16000 → «R$ 16.000», with a space that does not break; None → «n/d»."""
    if value is None:
        return MISSING
    sign = "-" if value < 0 else ""
    return f"{sign}R$\u00a0{number(abs(value))}"


def compact_reais(value: int) -> str:
    """2500 → «R$ 2,5 mil», for the few round amounts beside a chart."""
    sign = "-" if value < 0 else ""
    for size, name in ((1_000_000_000, "bi"), (1_000_000, "mi"), (1_000, "mil")):
        if abs(value) >= size:
            return f"{sign}R$\u00a0{abs(value) / size:g}\u00a0{name}".replace(".", ",")
    return reais(value)


def percent(value: int | None) -> str:
    """12 → «+12%», None → «n/d», 1599900 → «acima de 999%»."""
    if value is None:
        return MISSING
    if value > LARGEST_PERCENT:
        return f"acima de {LARGEST_PERCENT}%"
    return f"{value:+d}%" if value else "0%"


def month_name(mes: int, ano: int) -> str:
    """3, 2026 → «março de 2026»."""
    return f"{MONTHS.split()[mes - 1]} de {ano}"


def short_month(mes: int, ano: int) -> str:
    """3, 2026 → «mar. 2026»; «maio» needs no shortening."""
    name = MONTHS.split()[mes - 1]
    return f"{name if len(name) <= 4 else name[:3] + '.'} {ano}"


def month_letters(mes: int) -> str:
    """3 → «mar», where there is no room for more."""
    return MONTHS.split()[mes - 1][:3]


def bar_text(bar: Bar) -> str:
    """«março de 2026: faturamento R$ 17.600, lucro R$ 7.040», or «…, prejuízo R$ 500»."""
    name = month_name(bar.period.mes, bar.period.ano)
    if bar.month is None:
        return f"{name}: sem registro"
    # Many screen readers leave out a minus sign.
    result = "prejuízo" if bar.month.lucro < 0 else "lucro"
    amount = reais(abs(bar.month.lucro))
    return f"{name}: faturamento {reais(bar.month.faturamento)}, {result} {amount}"


def moment(value: datetime) -> str:
    """«10/03/2026, às 09h00», by the clocks of Brasília."""
    return value.astimezone(BRASILIA).strftime("%d/%m/%Y, às %Hh%M")


def seconds(value: float | None) -> str:
    """How long something lasted, as precisely as one would say it: «0,3 s», «4 min», «2 dias»."""
    if value is None:
        return MISSING
    for size, name in ((86_400, "dias"), (3_600, "h"), (60, "min")):
        if value >= 2 * size:
            return f"{value // size:.0f} {name}"
    return f"{value:.1f} s".replace(".", ",") if value < PRECISE else f"{value:.0f} s"


def first_name(name: str) -> str:
    """«Bia Nunes» → «Bia»."""
    return next(iter(name.split()), name)


def initials(name: str) -> str:
    """«Bia dos Santos Nunes» → «BN»."""
    words = name.split() or ["?"]
    return (words[0][0] + (words[-1][0] if len(words) > 1 else "")).upper()


def score_tone(score: int) -> str:
    """Which colour a score has, by the name of its style."""
    return _score(score)[0]


def score_word(score: int) -> str:
    """80 → «ótimo mês»."""
    return _score(score)[1]


def _score(score: int) -> tuple[str, str]:
    return next(((tone, word) for least, tone, word in SCORES if score >= least), NO_SCORE)
