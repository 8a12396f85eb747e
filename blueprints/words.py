"""How templates write numbers and months in Brazilian Portuguese."""

from datetime import datetime, timedelta, timezone

from flask import Flask

MONTHS = "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro"
MISSING = "n/d"
BRASILIA = timezone(timedelta(hours=-3))  # no summer time since 2019 (Decreto 9.772)


def register_words(app: Flask) -> None:
    """Give the templates their filters."""
    app.add_template_filter(reais)
    app.add_template_filter(number)
    app.add_template_filter(percent)
    app.add_template_filter(month_name)
    app.add_template_filter(short_month)
    app.add_template_filter(moment)
    app.add_template_filter(first_name)
    app.add_template_filter(initials)


def number(value: int) -> str:
    """1234567 → «1.234.567»."""
    return f"{value:,}".replace(",", ".")


def reais(value: int) -> str:
    """16000 → «R$ 16.000», with a space that does not break."""
    sign = "-" if value < 0 else ""
    return f"{sign}R$\u00a0{number(abs(value))}"


def percent(value: int | None) -> str:
    """12 → «+12%», None → «n/d»."""
    return MISSING if value is None else f"{value:+d}%".replace("+0", "0")


def month_name(mes: int, ano: int) -> str:
    """3, 2026 → «março de 2026»."""
    return f"{MONTHS.split()[mes - 1]} de {ano}"


def short_month(mes: int, ano: int) -> str:
    """3, 2026 → «mar. 2026»; «maio» needs no shortening."""
    name = MONTHS.split()[mes - 1]
    return f"{name if len(name) <= 4 else name[:3] + '.'} {ano}"


def moment(value: datetime) -> str:
    """«10/03/2026, às 09h00», by the clocks of Brasília."""
    return value.astimezone(BRASILIA).strftime("%d/%m/%Y, às %Hh%M")


def first_name(name: str) -> str:
    """«Bia Nunes» → «Bia»."""
    return next(iter(name.split()), name)


def initials(name: str) -> str:
    """«Bia dos Santos Nunes» → «BN»."""
    words = name.split() or ["?"]
    return (words[0][0] + (words[-1][0] if len(words) > 1 else "")).upper()
