"""Malformed texts, tokens, JSON documents, form parts and CSV lists for fuzz tests."""

import base64
import json
from random import Random
from urllib.parse import quote_plus

# fmt: off
TEXTS = (
    "", " ", "\x00", "a\x00b", "\ud800", "\udfff\ud800", "é", "\u202e", "\ufeff", "😀" * 50, "%00",
    "%ff", "'; DROP TABLE users; --", "{{7*7}}", "${jndi:ldap://x}", "<script>", "\r\n",
    "a" * 6_000, "-1", "0", "1e999", "٣", "²", "9" * 10, "2147483648", "9" * 300, "NaN", "null",
    "//[", "http://[", "http://[::1", "//evil.example", "/\\evil", "javascript:alert(1)",
    "http://a:99999/", "http://127.0.0.1:x/", "http://127.0.0.1]/", "//℀.example", "\x7f\x85",
)
FIELDS = (
    "nome_completo", "email", "foto_url", "turma", "ativo", "meta_faturamento", "meta_leads",
    "user_id", "into", "dry_run", "reason", "faturamento", "lucro", "observacoes", "id", "",
    "posts_feed", "meta_stories", "meta_procedimentos", "meta_posts", "type", "data", "object",
)
BROKEN_JSON = (
    b"[" * 60_000, b'{"a":' * 13_000, b"[" * 30_000 + b"]" * 30_000, b"{}" * 10, b"\xff\xfe{}",
    b"", b"{", b'{"a":1,}', b"'a'", b"nul", b"\xef\xbb\xbf{}", b"\x00", b'"\xed\xa0\x80"', b"0x1",
    b"[" * 500 + b"]" * 500, b'{"lucro":' + b"9" * 5_000 + b"}", b'{"lucro":1e99999}', b"-",
    b'{"lucro":NaN}', b'{"into":Infinity}', b"-Infinity", b'{"lucro":1,"lucro":2}',
    b"\n" * 60_000, "{}".encode("utf-16"), "{}".encode("utf-32"), b'"\\ud800"', b'{"\\u0000":1}',
    b'{"a":"\\x"}', b'{"lucro":' + b"9" * 4_000 + b"}", b'{"a":' * 21 + b"1" + b"}" * 21,
    b'{"id":1.0}',
)
BROKEN_TOKENS = (
    "", ".", "..", "...", "a.b.c", "e30.e30.", "bnVsbA.bnVsbA.bnVsbA", "\xe9.\xe9.\xe9", "=.=.=",
    "a" * 16_384, "W10.W10.W10", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1c2VyX2FkbWluIn0.", "\xff",
    "a.b.c.d.e", "%00",
)
# fmt: on
CLAIMS = (
    "sub",
    "exp",
    "iat",
    "nbf",
    "iss",
    "azp",
    "sid",
    "email",
    "handshake",
    "cat",
    "kid",
    "alg",
)
CELLS = (
    b"Eva",
    b"eva@example.com",
    b"\x00",
    b"\xff",
    b'"',
    b'"a"b',
    b"=1+1",
    b"\xed\xa0\x80",
    b"1,5",
)


def text(rng: Random) -> str:
    """A malformed text from the list, or a text of random characters."""
    if rng.random() < 0.8:
        return rng.choice(TEXTS)
    return "".join(chr(rng.randrange(0x11_0000)) for _ in range(rng.randrange(40)))


def percent_encoded(value: str) -> str:
    """The text in the encoding of forms, lone surrogates included."""
    return quote_plus(value.encode("utf-8", "surrogatepass"))


def json_document(rng: Random) -> bytes:
    """Broken JSON, or valid JSON with malformed values."""
    if rng.random() < 0.4:
        return rng.choice(BROKEN_JSON)
    names = [rng.choice(FIELDS) for _ in range(rng.randrange(1, 6))]
    return json.dumps({name: _value(rng) for name in names}).encode()


def session_token(rng: Random) -> str:
    """A malformed or unsigned session token."""
    if rng.random() < 0.3:
        return rng.choice(BROKEN_TOKENS)
    header = {"alg": rng.choice(("RS256", "none", "HS256", 1)), rng.choice(CLAIMS): _value(rng)}
    claims = {name: _value(rng) for name in rng.sample(CLAIMS, 4)}
    return ".".join(_segment(part) for part in (header, claims, "signature"))


def form_part(rng: Random) -> bytes:
    """A part of a multipart form, valid or malformed."""
    name = percent_encoded(text(rng)[:50]).encode()
    parts = (
        b'Content-Disposition: form-data; name="%s"\r\n\r\nx\r\n' % name,
        b"Content-Disposition: form-data\r\n\r\nx\r\n",
        b'Content-Disposition: form-data; name="arquivo"; filename="\xff\x00"\r\n\r\nx\r\n',
        b"\r\n\r\n",
        b"Content-Disposition: form-data; name*=utf-8''%ff\r\n\r\nx\r\n",
        b'Content-Disposition: form-data; name="nome"\r\nContent-Type: a; charset=x\r\n\r\n\xff',
        b"A: " + b"b" * 9_000 + b"\r\n\r\n",
    )
    return rng.choice(parts)


def spreadsheet(rng: Random) -> bytes:
    """A CSV list of mentees with malformed lines."""
    header = rng.choice(
        (b"nome;e-mail", b"nome,meta_leads", b"\xff\xfen\x00", b"nome\x00", b"", b'"nome')
    )
    lines = [b";".join(rng.choices(CELLS, k=rng.randrange(4))) for _ in range(rng.randrange(30))]
    long = b"a" * rng.choice((0, 0, 0, 140_000))
    return rng.choice((b"\n", b"\r\n", b"\r", b"\x85")).join([header, *lines, long])


def _value(rng: Random) -> object:
    values: tuple[object, ...] = (
        None,
        True,
        1,
        -1,
        2**31,
        2**64,
        1.5,
        1e308,
        [],
        {},
        [[]],
        {"a": {"b": []}},
        "a" * 300,
    )
    return text(rng) if rng.random() < 0.6 else rng.choice(values)


def _segment(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
