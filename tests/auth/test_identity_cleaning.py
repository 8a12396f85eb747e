"""Names, addresses and URLs from outside are made fit for the database or dropped."""

import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auth.identity import clean_email, clean_method, clean_name, clean_url

Clean = Callable[[object], str | None]

ANYTHING = st.text(st.characters(), max_size=600)  # lone surrogates and control characters too
VALUES = st.one_of(
    ANYTHING,
    st.builds("{}@{}".format, ANYTHING, ANYTHING),
    st.builds("https://example.com/{}".format, ANYTHING),
    st.text(min_size=250, max_size=600),
)
NOT_TEXT = [None, 7, True, ["Bia"], {"name": "Bia"}, b"Bia"]


@pytest.mark.parametrize(
    ("given_name", "expected"),
    [
        ("Bia Nunes", "Bia Nunes"),
        ("  Bia \n\t Nunes ", "Bia Nunes"),
        ("Bia\u2028Nunes", "Bia Nunes"),
        ("Bi\x00a", "Bia"),
        ("Bia\ud800", "Bia"),
        ("\x1b[31mBia\x7f", "[31mBia"),
        ("José da Conceição 🌻", "José da Conceição 🌻"),
        ("Bia\u00a0\u3000 Nunes", "Bia Nunes"),
        ("\ufeffBi\u200ba\u00ad", "Bia"),
        ("\u202eBia\U000e0041", "Bia"),
        ("Bi\u200da", "Bia"),
        ("Ana \u200c\ufe0f Lu", "Ana Lu"),
        (
            "क\u094d\u200dष 👩\u200d⚕\ufe0f 葛\U000e0100",
            "क\u094d\u200dष 👩\u200d⚕\ufe0f 葛\U000e0100",
        ),
        ("é\u200d\u200ba", "éa"),
        ("\u3164\u2800", None),
        ("é" * 254 + "\u200dé", "é" * 254),
        ("á" * 2000, "á" * 255),
        ("a" * 254 + " b", "a" * 254),
        (" \x00\t", None),
        ("", None),
    ],
)
def test_name_is_printable_and_fits(given_name: str, expected: str | None) -> None:
    assert clean_name(given_name) == expected


@pytest.mark.parametrize(
    "email", ["bia@example.com", "Bia+x@Example.com", "b" * 308 + "@example.com"]
)
def test_usable_address_is_unchanged(email: str) -> None:
    assert clean_email(f" {email}\n") == email


@pytest.mark.parametrize(
    "email",
    [
        "",
        "bia",
        "@example.com",
        "bia@",
        "bia@x@example.com",
        "bia nunes@example.com",
        "bia\x00@example.com",
        "bia\n@example.com",
        "bia\ud800@example.com",
        "bia\u200b@example.com",
        "bia@example.com;",
        "mailto:bia@example.com",
        "<bia@example.com>",
        "bia@localhost",
        "b" * 309 + "@example.com",
        "b" * 2000 + "@example.com",
    ],
    ids=ascii,
)
def test_unusable_address_is_dropped_and_not_repaired(email: str) -> None:
    assert clean_email(email) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://img.example.com/a.png?size=1#x",
        "HTTP://img.example.com",
        "https://e.co/" + "a" * 487,
    ],
)
def test_http_url_is_unchanged(url: str) -> None:
    assert clean_url(f" {url} ") == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://",
        "javascript:alert(1)",
        "data:image/png;base64,AA==",
        "//img.example.com/a.png",
        "x https://img.example.com/a.png",
        "https://img.example.com/a b.png",
        "https://img.example.com/\x00.png",
        "https://img.example.com/\n.png",
        "https://img.example.com/\ud800.png",
        "https://img.example.com/é.png",
        'https://img.example.com/"onerror=alert(1)',
        "https://img.example.com/<script>",
        "https://e.co/" + "a" * 488,
        "https://e.co/" + "a" * 2000,
    ],
    ids=ascii,
)
def test_other_url_is_dropped_and_not_cut(url: str) -> None:
    assert clean_url(url) is None


@pytest.mark.parametrize(
    ("method", "expected"),
    [("oauth_google", "oauth_google"), ("x" * 2000, "x" * 64), ("\x00", None), ("", None)],
    ids=["usual", "long", "nul", "empty"],
)
def test_login_method_is_cut_to_the_column_size(method: str, expected: str | None) -> None:
    assert clean_method(method) == expected


@pytest.mark.parametrize("clean", [clean_name, clean_email, clean_url, clean_method])
@pytest.mark.parametrize("value", NOT_TEXT, ids=repr)
def test_value_that_is_no_text_becomes_none(clean: Clean, value: object) -> None:
    assert clean(value) is None


@pytest.mark.parametrize(
    ("clean", "max_length"),
    [(clean_name, 255), (clean_email, 320), (clean_url, 500), (clean_method, 64)],
)
@given(value=VALUES)
@settings(deadline=None)
def test_cleaned_value_always_fits_the_column(clean: Clean, max_length: int, value: str) -> None:
    cleaned = clean(value) or ""

    assert len(cleaned) <= max_length
    assert cleaned.encode().decode() == cleaned


@pytest.mark.parametrize("clean", [clean_name, clean_email, clean_url, clean_method])
@given(value=VALUES)
@settings(deadline=None)
def test_cleaned_value_has_no_control_character(clean: Clean, value: str) -> None:
    cleaned = clean(value) or ""

    assert not [c for c in cleaned if unicodedata.category(c) == "Cc"]


@pytest.mark.parametrize("clean", [clean_name, clean_email, clean_url])
@given(value=VALUES)
@settings(deadline=None)
def test_cleaning_twice_changes_nothing(clean: Clean, value: str) -> None:
    cleaned = clean(value)

    assert clean(cleaned) == cleaned
