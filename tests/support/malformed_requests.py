"""Mutators for fuzz tests: each makes the contents of a well-framed request malformed."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from tests.support import malformed_contents
from tests.support.malformed_contents import FIELDS, percent_encoded, text
from tests.support.request_samples import RawRequest

Mutator = Callable[[Random, RawRequest], RawRequest]

CLERK_PARAMETERS = (
    "__clerk_handshake",
    "__clerk_handshake_nonce",
    "__clerk_db_jwt",
    "__clerk_help",
)
MONTH = ("lucro", "visto_lucro", "observacoes", "visto_observacoes", "mentorado", "leads", "")
FEEDBACK = ("analise_mes", "foco_proximo_mes", "sugestao_mentor", "visto", "marca")
# The parameters that are read below a path; the longest prefix applies.
PARAMETERS: dict[str, tuple[str, ...]] = {
    "/": (*CLERK_PARAMETERS, "tentativa", "q", "a[b][c]", ""),
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
}
# fmt: off
CONTENT_TYPES = (
    "application/json; charset=utf-7", "application/json; charset=é", "text/xml", "", ";", "/",
    "application/json; charset=utf-16", "application/x-www-form-urlencoded; charset=idna", "json",
    "application/JSON;;;", "multipart/form-data", "multipart/form-data; boundary=", "a/b, c/d",
    "application/problem+json", "text/plain; charset=rot13", "multipart/form-data; boundary=é",
    "application/json; charset*=utf-8''%ff",
)
HEADER_NAMES = (
    "Accept", "Accept-Language", "Accept-Encoding", "Range", "If-None-Match", "If-Modified-Since",
    "If-Range", "Origin", "Referer", "Sec-Fetch-Site", "Sec-Fetch-Dest", "X-Request-ID", "Expect",
    "User-Agent", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port",
    "X-Forwarded-Prefix", "Forwarded", "X-Real-IP", "X-HTTP-Method-Override", "X-Original-URL",
    "Authorization", "Cookie", "svix-id", "svix-timestamp", "svix-signature", "Script-Name",
)
HEADER_VALUES = (
    "\xff\xfe", "é", "a" * 9_000, ";;q=", "bytes=0-,1-,2-", "bytes=-99999999999999", '"', 'W/"',
    "Thu, 32 Foo 99999", "127.0.0.1, 127.0.0.1", "https", "evil.example", "/admin", "Basic \xff",
    "Bearer", "Bearer \xe9", "Bearer a.b.c", "text/html,*/*;q=1e99", "%00", "null", "[",
    "a, b, c", "Bearer " + "a" * 16_000, "Basic OjpAOg==", "gzip;q=x, *;q=-1", "v1,\xe9", "*",
    "-1", "=?x?=",
)
COOKIES = (
    "__session", "__session_abc", "__session_é", "__session_\x7f", '__session_"', "__client_uat",
    "__session_a,b", "__clerk_db_jwt", "__clerk_handshake", "__clerk_redirect_count", "session",
    "__refresh", "", "=", "$Version", "__Host-x", "\xff", "__client_uat_\xe9", "__session_(a)",
)
# fmt: on
HTML = ("Accept", "text/html")
SAME_ORIGIN = ("Origin", "http://127.0.0.1")


def query(rng: Random, request: RawRequest) -> RawRequest:
    """Query parameters with malformed names, values and numbers."""
    if rng.random() < 0.1:
        return request.with_query(
            rng.choice(("&" * 5_000, "a[" * 1_500 + "]" * 1_500, "a=1&" * 1_000))
        )
    pairs = [(rng.choice(_parameters_of(request)), text(rng)) for _ in range(rng.randrange(1, 4))]
    mutated = request.with_query("&".join(f"{n}={percent_encoded(v)}" for n, v in pairs)[:7_000])
    return _maybe_with_header(rng, mutated, HTML)


def header(rng: Random, request: RawRequest) -> RawRequest:
    """A malformed value of a header that the app or a library reads."""
    header_value = _as_header_value(text(rng)) if rng.random() < 0.3 else rng.choice(HEADER_VALUES)
    return _maybe_with_header(
        rng, request.with_headers((rng.choice(HEADER_NAMES), header_value)), HTML
    )


def cookies(rng: Random, request: RawRequest) -> RawRequest:
    """Cookies with malformed names and values, or too many of them."""
    cookie_pairs = [
        f"{rng.choice(COOKIES)}={_as_header_value(text(rng))}" for _ in range(rng.randrange(1, 6))
    ]
    many = [f"c{i}=v" for i in range(2_000)]
    cookie_value = "; ".join(many if rng.random() < 0.05 else cookie_pairs)[:20_000]
    return _maybe_with_header(
        rng, request.with_headers(("Cookie", cookie_value), SAME_ORIGIN), HTML
    )


def token(rng: Random, request: RawRequest) -> RawRequest:
    """A malformed session token or handshake."""
    malformed, choice = _as_header_value(malformed_contents.session_token(rng)), rng.random()
    anonymous = replace(request, headers=request.headers[:2])
    if choice < 0.2:
        return request.with_query(
            f"__clerk_handshake={percent_encoded(malformed)}"[:8_000]
        ).with_headers(HTML)
    if choice < 0.6:
        client_uat = rng.choice(("0", "1", "9" * 20, "x"))
        return anonymous.with_headers(
            ("Cookie", f"__session={malformed}; __client_uat={client_uat}"), HTML
        )
    return anonymous.with_headers(("Authorization", f"Bearer {malformed}"))


def json_body(rng: Random, request: RawRequest) -> RawRequest:
    """JSON with malformed contents, or text that is no JSON."""
    return request.with_headers(SAME_ORIGIN).with_body(
        malformed_contents.json_document(rng), "application/json"
    )


def form(rng: Random, request: RawRequest) -> RawRequest:
    """A form with malformed values, or with thousands of fields."""
    pairs = [(rng.choice(_parameters_of(request)), text(rng)) for _ in range(rng.randrange(1, 8))]
    body = "&".join(f"{name}={percent_encoded(value)}" for name, value in pairs).encode()
    if rng.random() < 0.1:
        body = b"&".join(b"f%d=%%ff" % number for number in range(rng.choice((900, 5_000))))
    return request.with_headers(SAME_ORIGIN).with_body(body, "application/x-www-form-urlencoded")


def multipart(rng: Random, request: RawRequest) -> RawRequest:
    """Multipart bodies without an end, a beginning or names, or with thousands of parts."""
    parts = [malformed_contents.form_part(rng) for _ in range(rng.choice((0, 1, 2, 3, 3, 3_000)))]
    boundary, end = b"--x\r\n", rng.choice((b"--x--\r\n", b"--x", b"", b"--y--"))
    body = (boundary + boundary.join(parts))[: rng.choice((100, 30_000, 60_000))] + end
    return request.with_headers(SAME_ORIGIN).with_body(body, "multipart/form-data; boundary=x")


def mistyped(rng: Random, request: RawRequest) -> RawRequest:
    """A body with the wrong content type."""
    body = rng.choice((b"{}", b"a=1", b"\xff\xfe", b"--x--", malformed_contents.json_document(rng)))
    return request.with_headers(SAME_ORIGIN).with_body(body, rng.choice(CONTENT_TYPES))


def spreadsheet(rng: Random, request: RawRequest) -> RawRequest:
    """A CSV upload to the admin console with malformed bytes."""
    upload = replace(request, method="POST", target="/admin/mentorados/novos").with_headers(
        SAME_ORIGIN
    )
    part_head = b'--x\r\nContent-Disposition: form-data; name="arquivo"; filename="l.csv"\r\n\r\n'
    body = part_head + malformed_contents.spreadsheet(rng) + b"\r\n--x--\r\n"
    return upload.with_body(body, "multipart/form-data; boundary=x")


def _parameters_of(request: RawRequest) -> tuple[str, ...]:
    return PARAMETERS[
        max((start for start in PARAMETERS if request.target.startswith(start)), key=len)
    ]


def _maybe_with_header(
    rng: Random, request: RawRequest, name_and_value: tuple[str, str]
) -> RawRequest:
    return request.with_headers(name_and_value) if rng.random() < 0.5 else request


def _as_header_value(value: str) -> str:
    """The text as header characters: one character for each byte, without line ends and NUL."""
    cleaned = "".join(c for c in value if c not in "\r\n\x00")
    return cleaned.encode("utf-8", "surrogatepass").decode("latin-1")


HEAD_MUTATORS: tuple[Mutator, ...] = (query, header, cookies, token)
BODY_MUTATORS: tuple[Mutator, ...] = (json_body, form, multipart, mistyped, spreadsheet)
