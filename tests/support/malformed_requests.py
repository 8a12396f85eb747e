"""What can be wrong inside a request that is well framed: each kind spoils a sound one."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from tests.support import malformed_contents
from tests.support.malformed_contents import FIELDS, percent_encoded, text
from tests.support.request_samples import Ask

Spoiler = Callable[[Random, Ask], Ask]

CLERKS = ("__clerk_handshake", "__clerk_handshake_nonce", "__clerk_db_jwt", "__clerk_help")
MONTH = ("lucro", "visto_lucro", "observacoes", "visto_observacoes", "mentorado", "leads", "")
FEEDBACK = ("analise_mes", "foco_proximo_mes", "sugestao_mentor", "visto", "marca")
# What is read at an address that begins so: the longest counts.
READ: dict[str, tuple[str, ...]] = {
    "/": (*CLERKS, "tentativa", "q", "a[b][c]", ""),
    "/login": ("next",),
    "/metricas": MONTH,
    "/local-clerk": ("redirect_url", "pessoa", "nome", "email", "verificado", "__clerk_db_jwt"),
    "/local-clerk/v1/users": ("offset", "limit"),
    "/admin": ("q", "cursor", "tipo", "reason", "marca", *FIELDS, "pessoa", "destino", "prefere"),
    "/admin/metas": ("mes", "meta_leads", "meta_posts", "reason", "confirmado", "chave", "contado"),
    "/admin/mentorados": ("q", "cursor", "tipo", "meta_leads", "reason", *FEEDBACK),
    "/admin/mentorados/novos": (
        "nome",
        "email",
        "lista",
        "reason",
        "confirmado",
        "arquivo",
        "chave",
    ),
    "/admin/tarefas": ("reason", "chave"),
    "/admin/criacao-automatica": ("reason",),
    "/api/admin": ("q", "cursor", "limit", "state"),
    "/static": ("v",),
    "/bootstrap": ("v",),
}
TYPES = (
    *("application/json; charset=utf-7", "application/json; charset=é", "text/xml", "", ";", "/"),
    *(
        "application/json; charset=utf-16",
        "application/x-www-form-urlencoded; charset=idna",
        "json",
    ),
    *("application/JSON;;;", "multipart/form-data", "multipart/form-data; boundary=", "a/b, c/d"),
    *("application/problem+json", "text/plain; charset=rot13", "multipart/form-data; boundary=é"),
    "application/json; charset*=utf-8''%ff",
)
TOLD = (
    *(
        "Accept",
        "Accept-Language",
        "Accept-Encoding",
        "Range",
        "If-None-Match",
        "If-Modified-Since",
    ),
    *(
        "If-Range",
        "Origin",
        "Referer",
        "Sec-Fetch-Site",
        "Sec-Fetch-Dest",
        "X-Request-ID",
        "Expect",
    ),
    *("User-Agent", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port"),
    *("X-Forwarded-Prefix", "Forwarded", "X-Real-IP", "X-HTTP-Method-Override", "X-Original-URL"),
    *("Authorization", "Cookie", "svix-id", "svix-timestamp", "svix-signature", "Script-Name"),
)
SAID = (
    *("\xff\xfe", "é", "a" * 9_000, ";;q=", "bytes=0-,1-,2-", "bytes=-99999999999999", '"', 'W/"'),
    *("Thu, 32 Foo 99999", "127.0.0.1, 127.0.0.1", "https", "evil.example", "/admin", "Basic \xff"),
    *(
        "Bearer",
        "Bearer \xe9",
        "Bearer a.b.c",
        "text/html,*/*;q=1e99",
        "%00",
        "null",
        "[",
        "a, b, c",
    ),
    *(
        "Bearer " + "a" * 16_000,
        "Basic OjpAOg==",
        "gzip;q=x, *;q=-1",
        "v1,\xe9",
        "*",
        "-1",
        "=?x?=",
    ),
)
COOKIES = (
    *("__session", "__session_abc", "__session_é", "__session_\x7f", '__session_"', "__client_uat"),
    *("__session_a,b", "__clerk_db_jwt", "__clerk_handshake", "__clerk_redirect_count", "session"),
    *("__refresh", "", "=", "$Version", "__Host-x", "\xff", "__client_uat_\xe9", "__session_(a)"),
)
HTML = ("Accept", "text/html")
OURS = ("Origin", "http://127.0.0.1")


def query(dice: Random, ask: Ask) -> Ask:
    """Parameters with strange names, values and numbers."""
    if dice.random() < 0.1:
        return ask.asking(dice.choice(("&" * 5_000, "a[" * 1_500 + "]" * 1_500, "a=1&" * 1_000)))
    pairs = [(dice.choice(_read_at(ask)), text(dice)) for _ in range(dice.randrange(1, 4))]
    asked = ask.asking("&".join(f"{n}={percent_encoded(v)}" for n, v in pairs)[:7_000])
    return _perhaps(dice, asked, HTML)


def header(dice: Random, ask: Ask) -> Ask:
    """A header that the program, or a library under it, reads."""
    said = _clothed(text(dice)) if dice.random() < 0.3 else dice.choice(SAID)
    return _perhaps(dice, ask.having((dice.choice(TOLD), said)), HTML)


def cookies(dice: Random, ask: Ask) -> Ask:
    """Cookies with strange names, strange contents, or far too many of them."""
    jar = [f"{dice.choice(COOKIES)}={_clothed(text(dice))}" for _ in range(dice.randrange(1, 6))]
    many = [f"c{i}=v" for i in range(2_000)]
    told = "; ".join(many if dice.random() < 0.05 else jar)[:20_000]
    return _perhaps(dice, ask.having(("Cookie", told), OURS), HTML)


def token(dice: Random, ask: Ask) -> Ask:
    """A session token, or a handshake, that is none."""
    broken, way = _clothed(malformed_contents.session_token(dice)), dice.random()
    stranger = replace(ask, headers=ask.headers[:2])
    if way < 0.2:
        return ask.asking(f"__clerk_handshake={percent_encoded(broken)}"[:8_000]).having(HTML)
    if way < 0.6:
        since = dice.choice(("0", "1", "9" * 20, "x"))
        return stranger.having(("Cookie", f"__session={broken}; __client_uat={since}"), HTML)
    return stranger.having(("Authorization", f"Bearer {broken}"))


def json_body(dice: Random, ask: Ask) -> Ask:
    """JSON with wrong contents, and what only looks like JSON."""
    return ask.having(OURS).sending(malformed_contents.json_document(dice), "application/json")


def form(dice: Random, ask: Ask) -> Ask:
    """A form with strange contents, or with thousands of fields."""
    pairs = [(dice.choice(_read_at(ask)), text(dice)) for _ in range(dice.randrange(1, 8))]
    body = "&".join(f"{name}={percent_encoded(value)}" for name, value in pairs).encode()
    if dice.random() < 0.1:
        body = b"&".join(b"f%d=%%ff" % number for number in range(dice.choice((900, 5_000))))
    return ask.having(OURS).sending(body, "application/x-www-form-urlencoded")


def multipart(dice: Random, ask: Ask) -> Ask:
    """Parts that do not end, do not begin, have no names, or are thousands."""
    parts = [malformed_contents.form_part(dice) for _ in range(dice.choice((0, 1, 2, 3, 3, 3_000)))]
    seam, end = b"--x\r\n", dice.choice((b"--x--\r\n", b"--x", b"", b"--y--"))
    body = (seam + seam.join(parts))[: dice.choice((100, 30_000, 60_000))] + end
    return ask.having(OURS).sending(body, "multipart/form-data; boundary=x")


def mistyped(dice: Random, ask: Ask) -> Ask:
    """A body under the wrong name."""
    body = dice.choice(
        (b"{}", b"a=1", b"\xff\xfe", b"--x--", malformed_contents.json_document(dice))
    )
    return ask.having(OURS).sending(body, dice.choice(TYPES))


def spreadsheet(dice: Random, ask: Ask) -> Ask:
    """A list for the desk with bytes that no spreadsheet writes."""
    upload = replace(ask, method="POST", target="/admin/mentorados/novos").having(OURS)
    head = b'--x\r\nContent-Disposition: form-data; name="arquivo"; filename="l.csv"\r\n\r\n'
    body = head + malformed_contents.spreadsheet(dice) + b"\r\n--x--\r\n"
    return upload.sending(body, "multipart/form-data; boundary=x")


def _read_at(ask: Ask) -> tuple[str, ...]:
    return READ[max((start for start in READ if ask.target.startswith(start)), key=len)]


def _perhaps(dice: Random, ask: Ask, told: tuple[str, str]) -> Ask:
    return ask.having(told) if dice.random() < 0.5 else ask


def _clothed(value: str) -> str:
    """The text in characters that can stand in a header, one for each byte of it."""
    kept = "".join(c for c in value if c not in "\r\n\x00")
    return kept.encode("utf-8", "surrogatepass").decode("latin-1")


OF_HEADS: tuple[Spoiler, ...] = (query, header, cookies, token)
OF_BODIES: tuple[Spoiler, ...] = (json_body, form, multipart, mistyped, spreadsheet)
