"""Which addresses are equal, in Python and in SQL alike, and which cannot be verified."""

from collections.abc import Iterator, Sequence
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Connection
from sqlalchemy.types import Text

from benchmarks.databases import connect_to
from core.email_address import FaultKind, find_fault, normalize_address
from core.unicode_13 import ASSIGNED
from migrations import address_tables
from scripts.address_tables import sql_tables, sql_text

PERSIAN = "نامه\u200cای"
KEYS = text("""
    SELECT normalized_address(sent.address)
      FROM unnest(:addresses) WITH ORDINALITY AS sent(address, number) ORDER BY number
""").bindparams(bindparam("addresses", type_=ARRAY(Text)))

# Each pair is one mailbox.
EQUAL = [
    (" Eva@Example.COM\t", "eva@example.com"),
    ("\u00a0eva@example.com\u3000", "eva@example.com"),
    ("\x1feva@example.com\u2028", "eva@example.com"),
    ("jose\u0301@example.com", "josé@example.com"),
    ("eva@aça\u00ed.com", "eva@ac\u0327ai\u0301.com"),
    ("eva@bücher.de", "EVA@XN--BCHER-KVA.DE"),
    ("eva@faß.de", "eva@xn--fa-hia.de"),
    ("eva@βόλος.com", "eva@xn--nxasmm1c.com"),
    ("eva@paral·lel.cat", "eva@xn--parallel-koa.cat"),
    (f"eva@{PERSIAN}.com", "eva@xn--mgba3gch31f060k.com"),
    ("eva@例え.テスト", "eva@xn--r8jz45g.xn--zckzah"),
    ("eva@xn--r8jz45g.テスト", "eva@例え.xn--zckzah"),
    ("eva@مثال.إختبار", "eva@xn--mgbh0fb.xn--kgbechtv"),
    ("eva@bücher.de.", "eva@xn--bcher-kva.de."),
    ("Ýeva@Bücher.de", "Ýeva@xn--bcher-kva.de"),
]
# Each pair is two mailboxes.
DIFFERENT = [
    ("ana@gİthub.com", "ana@github.com"),
    ("ana@gi\u0307thub.com", "ana@github.com"),
    ("ana@gıthub.com", "ana@github.com"),
    ("İana@x.com", "iana@x.com"),
    ("\u212aate@x.com", "kate@x.com"),
    ("ana@\u212aate.com", "ana@kate.com"),
    ("ana@x.com\u037e", "ana@x.com;"),
    ("\u1feffana@x.com", "`fana@x.com"),
    ("roſa@x.com", "rosa@x.com"),
    ("ana@roſa.com", "ana@rosa.com"),
    ("ａna@x.com", "ana@x.com"),
    ("ana@ｘ.com", "ana@x.com"),
    ("ana@x。com", "ana@x.com"),
    ("ana@x．com", "ana@x.com"),
    ("ana＠x.com", "ana@x.com"),
    ("ﬁna@x.com", "fina@x.com"),
    ("ana²@x.com", "ana2@x.com"),
    ("ana@x².com", "ana@x2.com"),
    ("ana@faß.de", "ana@fass.de"),
    ("ana@straẞe.de", "ana@straße.de"),
    ("ana@βόλος.com", "ana@βόλοσ.com"),
    ("Éva@x.com", "éva@x.com"),
    ("eva@BÜCHER.de", "eva@bücher.de"),
    ("ana@x.com.", "ana@x.com"),
    ("ana@x\u00ad.com", "ana@x.com"),
    ("ana\u200b@x.com", "ana@x.com"),
    ("ana@x\u200d.com", "ana@x.com"),
    ("ana@а.com", "ana@a.com"),  # Cyrillic
]
# Domains without A-labels, and strings that only look like A-labels.
UNCHANGED = [
    "ana@i❤.ws",
    "ana@❤️.ws",
    "ana@-ü.com",
    "ana@ü-.com",
    "ana@ab--ü.com",
    "ana@ü..com",
    "ana@.ü.com",
    "ana@ü_x.com",
    "ana@ü.a_b.com",
    "ana@\u0301ü.com",
    f"ana@{'ü' * 64}.com",
    f"ana@{'ü.' * 130}com",
    f"ana@ü.{'a' * 64}.com",
    "ana@ü.xn--0.com",
    "ana@ü.xn--.com",
    "ana@ü.xn--abc-.com",
    "ana@ü.xn--zzzzzzzzzzzzzzzzzz.com",
    "ana@ü.xn--bcher-kvä.com",
    "ana@ü.xn---bbk.com",
    "ana@ü.xn--a-ecp.ru",
    "ana@א1a.com",
    "ana@1א.com",
    "ana@א٠1.com",
    "ana@٠۰.com",
    "ana@a·b.com",
    "ana@a・b.com",
    "ana@u\u200c.com",
    "xn--\u00fc",
    "ü@",
]
BOUNDARIES = sorted(
    {
        point + step
        for name, table in vars(address_tables).items()
        if name.isupper()
        for end in table.strip("{}").replace(" ", "").replace("],[", ",").strip("[]").split(",")
        for step in (-1, 0, 1)
        if (point := int(end)) >= 0
    }
    - set(range(0xD800, 0xE000))
    - {-1, 0, 0x110000}
)
# Characters that the rules name, so that generated texts contain them.
SPECIAL = st.sampled_from(
    "abl@.-·͵׳״・\u200c\u200dxnéßςσİıſKﬁא٠۰1٠नम्ل\u0301ﾞア漢ü 一\u00a0XN--İ\U0001e000\U00011f00"
)
TEXT = st.text(st.one_of(SPECIAL, st.characters(exclude_characters="\x00", codec="utf-8")))
LABEL = st.one_of(
    TEXT,
    st.text(SPECIAL, max_size=8),
    st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789-"), max_size=12).map(
        "xn--{}".format
    ),
    st.text(st.characters(exclude_categories=("C", "Z", "P", "S", "Lu")), min_size=1, max_size=8),
)
DOMAIN = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
ADDRESS = st.one_of(TEXT, DOMAIN, st.builds("{}@{}".format, TEXT, DOMAIN))


@pytest.fixture(scope="module")
def migrated(template_url: str) -> Iterator[Connection]:
    """A connection to a migrated database, whose locale lower-cases some letters to ASCII."""
    with connect_to(template_url) as connection:
        assert connection.scalar(text("SELECT lower('İ') = 'i' AND lower('\u212a') = 'k'"))
        yield connection


@pytest.fixture(scope="module")
def locale_c(server_url: str, migrated: Connection) -> Iterator[Connection]:
    """A connection to a database with locale C that has the same SQL functions."""
    names = ("composed_address_part", "domain_key", "international_address", "normalized_address")
    definition = text("SELECT pg_get_functiondef(CAST(:name AS regproc))")
    functions = [migrated.scalar(definition, {"name": name}) for name in names]
    with connect_to(server_url) as connection:
        locale = "LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C'"
        connection.execute(text(f"CREATE DATABASE locale_c TEMPLATE template0 {locale}"))
    url = migrated.engine.url.set(database="locale_c")
    with connect_to(url.render_as_string(hide_password=False)) as connection:
        assert connection.scalar(text("SELECT lower('İ') = 'İ'"))
        for function in functions:
            connection.connection.cursor().execute(str(function))
        yield connection


@pytest.fixture(params=["migrated", "locale_c"])
def database(request: pytest.FixtureRequest) -> Connection:
    """Each of the two databases."""
    keys: Connection = request.getfixturevalue(request.param)
    return keys


def sql_keys(connection: Connection, addresses: Sequence[str]) -> list[str | None]:
    return list(connection.scalars(KEYS, {"addresses": list(addresses)}))


python_key = cache(normalize_address)  # both databases are compared with the same addresses


def assert_sql_agrees(connection: Connection, addresses: Sequence[str]) -> None:
    keys = dict(zip(addresses, sql_keys(connection, addresses), strict=True))

    assert keys == {address: python_key(address) for address in addresses}


@pytest.mark.parametrize(("one", "other"), EQUAL, ids=ascii)
def test_equal_addresses_have_one_key(one: str, other: str) -> None:
    assert normalize_address(one) == normalize_address(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=ascii)
def test_look_alikes_have_different_keys(one: str, other: str) -> None:
    assert normalize_address(one) != normalize_address(other)


@pytest.mark.parametrize("address", UNCHANGED, ids=ascii)
def test_domain_without_a_labels_is_unchanged(address: str) -> None:
    assert normalize_address(address) == address


@pytest.mark.parametrize("blank", ["", " ", "\u00a0\u3000\t"])
def test_blank_text_has_no_key(blank: str, migrated: Connection) -> None:
    assert (normalize_address(blank), sql_keys(migrated, [blank])) == (None, [None])


def test_sql_agrees_on_all_known_cases(database: Connection) -> None:
    assert_sql_agrees(
        database, [*{each for pair in EQUAL + DIFFERENT for each in pair}, *UNCHANGED]
    )


def test_sql_agrees_at_the_ends_of_every_character_range(database: Connection) -> None:
    templates = (
        "{0}@{0}.com",
        "x@a{0}b.com",
        "x@א{0}.com",
        "x@ア{0}",
        "x@لّ\u200c{0}ل",
        "l{0}l@l{0}l",
    )
    addresses = [t.format(chr(point)) for point in BOUNDARIES for t in templates]

    assert_sql_agrees(database, addresses)


@given(addresses=st.lists(ADDRESS, max_size=50))
@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_sql_agrees_on_arbitrary_text(database: Connection, addresses: list[str]) -> None:
    assert_sql_agrees(database, addresses)


def test_sql_tables_match_the_installed_idna() -> None:
    ends = (each.split("-") for each in ASSIGNED.split())
    assigned = {point for each in ends for point in range(int(each[0], 16), int(each[-1], 16) + 1)}

    tables = {name: sql_text(points) for name, points in sql_tables(assigned).items()}

    assert tables == {n: v for n, v in vars(address_tables).items() if n.isupper()}


@pytest.mark.parametrize(
    "address",
    [
        "eva@example.com",
        " Eva.Melo+x@sub.example.com.br\u00a0",
        "o'brien@example.com",
        "!#$%&'*+-/=?^_`{|}~@example.com",
        "josé@açaí.com",
        "ａna@gİthub.com",
        "eva@paral·lel.cat",
        "eva@xn--bcher-kva.de",
        "eva@😀.ws",
        "e" * 308 + "@example.com",
    ],
    ids=ascii,
)
def test_address_that_can_be_verified_has_no_fault(address: str) -> None:
    assert find_fault(address) is None


@pytest.mark.parametrize(
    ("address", "kind", "code_point"),
    [
        ("", FaultKind.INCOMPLETE, ""),
        ("eva", FaultKind.INCOMPLETE, ""),
        ("@example.com", FaultKind.INCOMPLETE, ""),
        ("eva@", FaultKind.INCOMPLETE, ""),
        ("e" * 309 + "@example.com", FaultKind.TOO_LONG, ""),
        ("MailTo:eva@example.com", FaultKind.SCHEME, ""),
        ("eva\x00@example.com", FaultKind.CONTROL, "U+0000"),
        ("eva\x1f@example.com", FaultKind.CONTROL, "U+001F"),
        ("eva\x9f@example.com", FaultKind.CONTROL, "U+009F"),
        ("eva\ud800@example.com", FaultKind.CONTROL, "U+D800"),
        ("eva\ue000@example.com", FaultKind.CONTROL, "U+E000"),
        ("eva\ufdd0@example.com", FaultKind.CONTROL, "U+FDD0"),
        ("eva\u200b@example.com", FaultKind.INVISIBLE, "U+200B"),
        ("eva@exam\u00adple.com", FaultKind.INVISIBLE, "U+00AD"),
        ("eva@exam\u200dple.com", FaultKind.INVISIBLE, "U+200D"),
        ("\ufeffeva@example.com", FaultKind.INVISIBLE, "U+FEFF"),
        ("eva@example.com\u200e", FaultKind.INVISIBLE, "U+200E"),
        ("\u202eeva@example.com", FaultKind.INVISIBLE, "U+202E"),
        ("eva\u2060@example.com", FaultKind.INVISIBLE, "U+2060"),
        ("eva\ufe0f@example.com", FaultKind.INVISIBLE, "U+FE0F"),
        ("eva\U000e0061@example.com", FaultKind.INVISIBLE, "U+E0061"),
        ("eva\u3164@example.com", FaultKind.INVISIBLE, "U+3164"),
        ("eva\u0600@example.com", FaultKind.INVISIBLE, "U+0600"),
        ("eva @example.com", FaultKind.WHITE_SPACE, "U+0020"),
        ("eva@exam\u00a0ple.com", FaultKind.WHITE_SPACE, "U+00A0"),
        ("eva\n@example.com", FaultKind.WHITE_SPACE, "U+000A"),
        ("eva\u3000@example.com", FaultKind.WHITE_SPACE, "U+3000"),
        ("Eva <eva@example.com>", FaultKind.WHITE_SPACE, "U+0020"),
        ("<eva@example.com>", FaultKind.FORBIDDEN, "U+003C"),
        ('"eva"@example.com', FaultKind.FORBIDDEN, "U+0022"),
        ("'eva@example.com", FaultKind.FORBIDDEN, "U+0027"),
        ("“eva@example.com", FaultKind.FORBIDDEN, "U+201C"),
        ("(eva)@example.com", FaultKind.FORBIDDEN, "U+0028"),
        ("eva@example.com,bia@example.com", FaultKind.FORBIDDEN, "U+002C"),
        ("eva@example.com;bia@example.com", FaultKind.FORBIDDEN, "U+003B"),
        ("eva@exam_ple.com", FaultKind.FORBIDDEN, "U+005F"),
        ("eva@example.com?subject=x", FaultKind.FORBIDDEN, "U+003F"),
        ("eva@example。com", FaultKind.FORBIDDEN, "U+3002"),
        ("eva＜@example.com", FaultKind.FORBIDDEN, "U+FF1C"),
        ("eva@example.com;", FaultKind.END, "U+003B"),
        ("eva@example.com.", FaultKind.END, "U+002E"),
        ("eva@example.com!", FaultKind.END, "U+0021"),
        ("eva@example.com…", FaultKind.END, "U+2026"),
        ("eva@example.com)", FaultKind.END, "U+0029"),
        ("eva@example.com”", FaultKind.END, "U+201D"),
        ("eva@@example.com", FaultKind.SEVERAL_AT, ""),
        ("eva@x.com@example.com", FaultKind.SEVERAL_AT, ""),
        ("eva@localhost", FaultKind.DOMAIN, ""),
        ("eva@example..com", FaultKind.DOMAIN, ""),
        ("eva@.example.com", FaultKind.DOMAIN, ""),
        ("eva@-example.com", FaultKind.DOMAIN, ""),
        ("eva@example-.com", FaultKind.DOMAIN, ""),
        (f"eva@{'e' * 64}.com", FaultKind.DOMAIN, ""),
    ],
    ids=ascii,
)
def test_address_that_cannot_be_verified_has_a_named_fault(
    address: str, kind: FaultKind, code_point: str
) -> None:
    fault = find_fault(address)

    assert fault is not None
    assert (fault.kind, fault.code_point) == (kind, code_point)
