"""Numbers as people in Brazil type them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.formatting import NumeralError, number, reais, whole_number


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
def test_whole_numbers_are_read(text: str, value: int) -> None:
    assert whole_number(text) == value


@pytest.mark.parametrize(
    "text", ["12,5", "12.500,01", "0,99", "R$ 1,50", "-1.234,56", "-R$ 0,50", "R$ -0,50"]
)
def test_fractions_are_told_apart_from_nonsense(text: str) -> None:
    with pytest.raises(NumeralError) as refused:
        whole_number(text)

    assert refused.value.kind == "cents"


@pytest.mark.parametrize(
    "text",
    [
        *("", "abc", "12.50", "1,000", "1.2345", "12,", ",5", "1.000,000", "1e3", "0x10"),
        *("12 34", "1.000 000", "--5", "5-", "R$", "R$ R$ 5", "١٢", "½", "9" * 41, "1 .000"),
        *("1234.567", "1234 567", "-", "-R$", "R$ -", "-R$ -5", "- -5", "(500)", "5 -", "+5"),
    ],
)
def test_anything_else_is_no_number(text: str) -> None:
    with pytest.raises(NumeralError) as refused:
        whole_number(text)

    assert refused.value.kind == "numeral"


@given(st.integers(-2_147_483_648, 2_147_483_647))
def test_what_we_write_we_can_read(value: int) -> None:
    assert (whole_number(number(value)), whole_number(reais(value))) == (value, value)


@given(st.text(max_size=60))
def test_no_text_at_all_breaks_the_reading(text: str) -> None:
    try:
        value = whole_number(text)
    except NumeralError:
        return
    assert isinstance(value, int)
