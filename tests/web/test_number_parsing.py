"""Parsing of numbers as users in Brazil type them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.formatting import NumberFormatError, number, parse_whole_number, reais


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("12500", 12_500),
        ("12.500", 12_500),
        ("1.234.567", 1_234_567),
        ("12 500", 12_500),
        ("1 234 567", 1_234_567),
        ("12\u00a0500", 12_500),
        ("12.500,00", 12_500),
        ("12500,0", 12_500),
        ("R$ 12.500,00", 12_500),
        ("R$12500", 12_500),
        ("  7  ", 7),
        ("007", 7),
        ("7".zfill(40), 7),
        ("-5", -5),
        ("\u22125", -5),
        ("\u20135", -5),
        ("\u20111.234", -1_234),
        ("- 500", -500),
        ("R$ -500", -500),
        ("R$ - 1.234.567", -1_234_567),
        ("-R$ 500", -500),
        ("-R$500,00", -500),
        ("\u2212 R$\u00a01.234", -1_234),
        ("-0", 0),
    ],
)
def test_whole_numbers_are_parsed(text: str, value: int) -> None:
    assert parse_whole_number(text) == value


@pytest.mark.parametrize(
    "text", ["12,5", "12.500,01", "0,99", "R$ 1,50", "-1.234,56", "-R$ 0,50", "R$ -0,50"]
)
def test_fractions_have_their_own_error(text: str) -> None:
    with pytest.raises(NumberFormatError) as caught:
        parse_whole_number(text)

    assert caught.value.kind == "cents"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "12.50",
        "1,000",
        "1.2345",
        "12,",
        ",5",
        "1.000,000",
        "1e3",
        "0x10",
        "12 34",
        "1.000 000",
        "--5",
        "5-",
        "R$",
        "R$ R$ 5",
        "١٢",
        "½",
        "9" * 41,
        "1 .000",
        "1234.567",
        "1234 567",
        "-",
        "-R$",
        "R$ -",
        "-R$ -5",
        "- -5",
        "(500)",
        "5 -",
        "+5",
    ],
)
def test_other_texts_are_no_numbers(text: str) -> None:
    with pytest.raises(NumberFormatError) as caught:
        parse_whole_number(text)

    assert caught.value.kind == "numeral"


@given(st.integers(-2_147_483_648, 2_147_483_647))
def test_formatted_numbers_can_be_parsed(value: int) -> None:
    assert (parse_whole_number(number(value)), parse_whole_number(reais(value))) == (value, value)


@given(st.text(max_size=60))
def test_any_text_is_a_number_or_a_numeral_error(text: str) -> None:
    try:
        value = parse_whole_number(text)
    except NumberFormatError:
        return
    assert isinstance(value, int)
