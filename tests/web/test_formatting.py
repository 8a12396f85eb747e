"""Formatting of numbers, months and names in Brazilian Portuguese."""

from datetime import UTC, datetime

import pytest
from flask import Flask, render_template_string

from dashboard.chart import Bar
from dashboard.months import Goals, Month
from dashboard.periods import Period
from web.formatting import (
    bar_text,
    compact_reais,
    first_name,
    initials,
    moment,
    month_name,
    number,
    percent,
    reais,
    register_filters,
    score_label,
    short_month,
)


@pytest.mark.parametrize(
    ("value", "formatted"),
    [(0, "0"), (999, "999"), (1000, "1.000"), (1234567, "1.234.567"), (-1000, "-1.000")],
)
def test_thousands_are_separated_by_points(value: int, formatted: str) -> None:
    assert number(value) == formatted


@pytest.mark.parametrize(
    ("value", "formatted"),
    [
        (0, "R$\u00a00"),
        (16000, "R$\u00a016.000"),
        (-16000, "-R$\u00a016.000"),
        (None, "n/d"),
    ],
)
def test_money_has_a_leading_sign_and_a_non_breaking_space(
    value: int | None, formatted: str
) -> None:
    assert reais(value) == formatted


@pytest.mark.parametrize(
    ("value", "formatted"),
    [
        (12, "+12%"),
        (-12, "-12%"),
        (0, "0%"),
        (100, "+100%"),
        (None, "n/d"),
        (999, "+999%"),
        (1_000, "acima de 999%"),
        (1_599_900, "acima de 999%"),
        (-100, "-100%"),
    ],
)
def test_growth_has_its_sign(value: int | None, formatted: str) -> None:
    assert percent(value) == formatted


@pytest.mark.parametrize(
    ("value", "formatted"),
    [
        (0, "R$\u00a00"),
        (500, "R$\u00a0500"),
        (1_000, "R$\u00a01\u00a0mil"),
        (2_500, "R$\u00a02,5\u00a0mil"),
        (1_000_000, "R$\u00a01\u00a0mi"),
        (2_500_000_000, "R$\u00a02,5\u00a0bi"),
        (-500, "-R$\u00a0500"),
        (-2_500, "-R$\u00a02,5\u00a0mil"),
        (-1_000_000, "-R$\u00a01\u00a0mi"),
    ],
)
def test_money_of_the_chart_is_short(value: int, formatted: str) -> None:
    assert compact_reais(value) == formatted


@pytest.mark.parametrize(
    ("score", "tone", "word"),
    [
        (0, "none", "sem pontos ainda"),
        (1, "start", "no começo"),
        (29, "start", "no começo"),
        (30, "going", "no caminho"),
        (59, "going", "no caminho"),
        (60, "near", "bom mês"),
        (79, "near", "bom mês"),
        (80, "good", "ótimo mês"),
        (99, "good", "ótimo mês"),
        (100, "top", "mês excepcional"),
        (120, "top", "mês excepcional"),
    ],
)
def test_score_has_a_tone_and_a_word(score: int, tone: str, word: str) -> None:
    assert score_label(score) == (tone, word)


def test_text_of_a_bar_has_its_month() -> None:
    march = Month(2026, 3, 17_600, 7_040, 0, 0, 0, 0, Goals(0, 0, 0, 0, 0))

    formatted = bar_text(Bar(Period(2026, 3), march, 0))

    assert formatted == "março de 2026: faturamento R$\u00a017.600, lucro R$\u00a07.040"


def test_text_of_a_bar_names_a_loss() -> None:
    march = Month(2026, 3, 17_600, -7_040, 0, 0, 0, 0, Goals(0, 0, 0, 0, 0))

    formatted = bar_text(Bar(Period(2026, 3), march, 0))

    assert formatted == "março de 2026: faturamento R$\u00a017.600, prejuízo R$\u00a07.040"


def test_text_of_a_bar_names_a_missing_month() -> None:
    assert bar_text(Bar(Period(2026, 3), None, 0)) == "março de 2026: sem registro"


@pytest.mark.parametrize(
    ("mes", "formatted"),
    [(1, "janeiro de 2026"), (3, "março de 2026"), (12, "dezembro de 2026")],
)
def test_month_is_written_out(mes: int, formatted: str) -> None:
    assert month_name(mes, 2026) == formatted


@pytest.mark.parametrize(
    ("mes", "formatted"), [(1, "jan. 2026"), (5, "maio 2026"), (12, "dez. 2026")]
)
def test_long_month_is_shortened(mes: int, formatted: str) -> None:
    assert short_month(mes, 2026) == formatted


@pytest.mark.parametrize(
    ("name", "first"), [("Bia Nunes", "Bia"), (" Bia ", "Bia"), ("Bia", "Bia"), ("", "")]
)
def test_first_name_is_the_first_word(name: str, first: str) -> None:
    assert first_name(name) == first


@pytest.mark.parametrize(
    ("name", "letters"),
    [("Bia dos Santos Nunes", "BN"), ("bia nunes", "BN"), ("Érica", "É"), ("", "?"), (" ", "?")],
)
def test_initials_are_those_of_the_first_and_the_last_name(name: str, letters: str) -> None:
    assert initials(name) == letters


@pytest.mark.parametrize(
    ("expression", "formatted"),
    [
        ("1000|reais", "R$\u00a01.000"),
        ("1000|number", "1.000"),
        ("1|percent", "+1%"),
        ("1|month_name(2026)", "janeiro de 2026"),
        ("1|short_month(2026)", "jan. 2026"),
        ("'Bia Nunes'|first_name", "Bia"),
        ("'Bia Nunes'|initials", "BN"),
        ("5000|scale_mark('lucro')", "R$\u00a05\u00a0mil"),
        ("3|month_letters", "mar"),
        ("80|score_label|join(' ')", "good ótimo mês"),
    ],
)
def test_templates_have_the_filters(expression: str, formatted: str) -> None:
    app = Flask(__name__)
    register_filters(app)

    with app.app_context():
        assert render_template_string("{{ " + expression + " }}") == formatted


def test_templates_have_the_filters_for_bars_and_moments() -> None:
    app = Flask(__name__)
    register_filters(app)

    filters = app.jinja_env.filters
    assert (filters["bar_text"], filters["moment"]) == (bar_text, moment)


def test_moment_is_formatted_in_the_time_of_brasilia() -> None:
    assert moment(datetime(2026, 3, 11, 1, 5, tzinfo=UTC)) == "10/03/2026, às 22h05"
