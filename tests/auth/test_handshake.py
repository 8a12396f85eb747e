"""Each state of a browser's cookies, on either kind of instance: in, out, or off to Clerk."""

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import pytest

from auth.errors import KeysUnavailableError
from auth.handshake import BrowserRequest, HandshakeAnswers, HandshakeDecision, HandshakeService
from auth.jwks import KeySet
from auth.tokens import TokenVerifier
from tests.auth.test_tokens import ISSUER, NOW, StoppedClock, by_stranger, token, verifier

SUFFIX = "naoXFJnI"
URL = "https://app.example.com/painel"
SINCE = NOW - 100  # when the browser signed in
IN, OUT = "signed in", "signed out"
DEVELOPMENT, PRODUCTION = "development", "production"

Jar = dict[str, str]
Headers = tuple[str, str, str]  # method, Sec-Fetch-Dest, Accept


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jwt.api_jwt.datetime", StoppedClock)


def judges(
    instance: str, fetch: Callable[[str], list[str]] | None = None, suffix: str | None = SUFFIX
) -> HandshakeService:
    returns = HandshakeAnswers(verifier(), suffix, instance == DEVELOPMENT, fetch)
    return HandshakeService(verifier(), returns, lambda: float(NOW))


def jar(session: str = "", uat: object = "", *, browser: str = "dvb_1") -> Jar:
    """As Clerk writes them: each cookie under both of its names."""
    held = {"__session": session, "__client_uat": str(uat), "__clerk_db_jwt": browser}
    named = {name: value for name, value in held.items() if value}
    return {**named, **{f"{name}_{SUFFIX}": value for name, value in named.items()}}


def page(cookies: Jar, query: str = "") -> BrowserRequest:
    return BrowserRequest(URL + query, cookies, accept="text/html", destination="document")


def asked(verdict: HandshakeDecision) -> dict[str, str]:
    """The parameters that a browser takes along to Clerk."""
    return dict(parse_qsl(urlsplit(verdict.location or "").query, keep_blank_values=True))


def outcome(verdict: HandshakeDecision) -> str:
    if verdict.location is not None:
        return asked(verdict)["__clerk_hs_reason"]
    return IN if verdict.claims else OUT


STATES: dict[str, Callable[[], BrowserRequest]] = {
    "signed in": lambda: page(jar(token(), SINCE)),
    "signed in at this second": lambda: page(jar(token(), NOW)),
    "nothing": lambda: page(jar()),
    "uat 0": lambda: page(jar(uat=0)),
    "token without uat": lambda: page(jar(token())),
    "token with uat 0": lambda: page(jar(token(), 0)),
    "token with a word for uat": lambda: page(jar(token(), "yesterday")),
    "uat without token": lambda: page(jar(uat=SINCE)),
    "issued before uat": lambda: page(jar(token(iat=SINCE - 1), SINCE)),
    "expired": lambda: page(jar(token(exp=NOW - 5), SINCE)),
    "expired, new to this site": lambda: page(jar(token(exp=NOW - 5))),
    "not yet valid": lambda: page(jar(token(nbf=NOW + 6), SINCE)),
    "issued in the future": lambda: page(jar(token(iat=NOW + 6), SINCE)),
    "malformed": lambda: page(jar("not.a.token", SINCE)),
    "another class": lambda: page(jar(token(cat="cl_B7d4PD222AAA"), SINCE)),
    "another class, expired": lambda: page(jar(token(cat="cl_B7d4PD222AAA", exp=NOW - 5), SINCE)),
    "bad signature": lambda: page(jar(token(by_stranger), SINCE)),
    "bad signature, expired": lambda: page(jar(token(by_stranger, exp=NOW - 5), SINCE)),
    "unknown kid": lambda: page(jar(token(kid="ins_2"), SINCE)),
    "retired key": lambda: page(jar(token(kid="ins_2", exp=NOW - 5), SINCE)),
    "another instance's": lambda: page(jar(token(iss="https://clerk.example.org"), SINCE)),
    "signed in, no browser": lambda: page(jar(token(), SINCE, browser="")),
    "nothing, no browser": lambda: page({}),
    "no uat, no browser": lambda: page(jar(token(), browser="")),
    "signed in, new browser": lambda: page(jar(token(), SINCE), "?__clerk_db_jwt=dvb_2"),
    "nothing, new browser": lambda: page({}, "?__clerk_db_jwt=dvb_2"),
}

# What somebody gets who waits for a page, and what a program gets that cannot make a detour.
# fmt: off
ROWS: list[tuple[str, str, str, str]] = [
    ("signed in",                 DEVELOPMENT, IN, IN),
    ("signed in",                 PRODUCTION,  IN, IN),
    ("signed in at this second",  DEVELOPMENT, IN, IN),
    ("signed in at this second",  PRODUCTION,  IN, IN),
    ("nothing",                   DEVELOPMENT, OUT, OUT),
    ("nothing",                   PRODUCTION,  OUT, OUT),
    ("uat 0",                     DEVELOPMENT, OUT, OUT),
    ("uat 0",                     PRODUCTION,  OUT, OUT),
    ("token without uat",         DEVELOPMENT, "session-token-but-no-client-uat", IN),
    ("token without uat",         PRODUCTION,  "session-token-but-no-client-uat", IN),
    ("token with uat 0",          DEVELOPMENT, "session-token-but-no-client-uat", OUT),
    ("token with uat 0",          PRODUCTION,  "session-token-but-no-client-uat", OUT),
    ("token with a word for uat", DEVELOPMENT, "session-token-but-no-client-uat", OUT),
    ("token with a word for uat", PRODUCTION,  "session-token-but-no-client-uat", OUT),
    ("uat without token",         DEVELOPMENT, "client-uat-but-no-session-token", OUT),
    ("uat without token",         PRODUCTION,  "client-uat-but-no-session-token", OUT),
    ("issued before uat",         DEVELOPMENT, "session-token-iat-before-client-uat", OUT),
    ("issued before uat",         PRODUCTION,  "session-token-iat-before-client-uat", OUT),
    ("expired",                   DEVELOPMENT, "session-token-expired", OUT),
    ("expired",                   PRODUCTION,  "session-token-expired", OUT),
    ("expired, new to this site", DEVELOPMENT, "session-token-but-no-client-uat", OUT),
    ("expired, new to this site", PRODUCTION,  "session-token-but-no-client-uat", OUT),
    ("not yet valid",             DEVELOPMENT, "session-token-nbf", OUT),
    ("not yet valid",             PRODUCTION,  "session-token-nbf", OUT),
    ("issued in the future",      DEVELOPMENT, "session-token-iat-in-the-future", OUT),
    ("issued in the future",      PRODUCTION,  "session-token-iat-in-the-future", OUT),
    ("malformed",                 DEVELOPMENT, OUT, OUT),
    ("malformed",                 PRODUCTION,  OUT, OUT),
    ("another class",             DEVELOPMENT, OUT, OUT),
    ("another class",             PRODUCTION,  OUT, OUT),
    ("another class, expired",    DEVELOPMENT, OUT, OUT),
    ("another class, expired",    PRODUCTION,  OUT, OUT),
    ("bad signature",             DEVELOPMENT, OUT, OUT),
    ("bad signature",             PRODUCTION,  OUT, OUT),
    ("bad signature, expired",    DEVELOPMENT, OUT, OUT),
    ("bad signature, expired",    PRODUCTION,  OUT, OUT),
    ("unknown kid",               DEVELOPMENT, OUT, OUT),
    ("unknown kid",               PRODUCTION,  OUT, OUT),
    ("retired key",               DEVELOPMENT, "session-token-expired", OUT),
    ("retired key",               PRODUCTION,  "session-token-expired", OUT),
    ("another instance's",        DEVELOPMENT, OUT, OUT),
    ("another instance's",        PRODUCTION,  OUT, OUT),
    ("signed in, no browser",     DEVELOPMENT, "dev-browser-missing", IN),
    ("signed in, no browser",     PRODUCTION,  IN, IN),
    ("nothing, no browser",       DEVELOPMENT, "dev-browser-missing", OUT),
    ("nothing, no browser",       PRODUCTION,  OUT, OUT),
    ("no uat, no browser",        DEVELOPMENT, "dev-browser-missing", IN),
    ("no uat, no browser",        PRODUCTION,  "session-token-but-no-client-uat", IN),
    ("signed in, new browser",    DEVELOPMENT, "dev-browser-sync", IN),
    ("signed in, new browser",    PRODUCTION,  IN, IN),
    ("nothing, new browser",      DEVELOPMENT, "dev-browser-sync", OUT),
    ("nothing, new browser",      PRODUCTION,  OUT, OUT),
]
# fmt: on

PAGES: dict[str, Headers] = {
    "in a tab": ("GET", "document", ""),
    "in a frame": ("GET", "iframe", ""),
    "in an old browser": ("GET", "", "text/html,*/*;q=0.8"),
}
PROGRAMS: dict[str, Headers] = {
    "script of a page": ("GET", "empty", "text/html"),
    "API call": ("GET", "", "application/json"),
    "HEAD": ("HEAD", "document", "text/html"),
    "form": ("POST", "document", "text/html"),
}


def judged(state: str, instance: str, headers: Headers) -> HandshakeDecision:
    method, destination, accept = headers
    visit = replace(STATES[state](), method=method, destination=destination, accept=accept)
    return judges(instance).resolve(visit, ISSUER)


@pytest.mark.parametrize("headers", PAGES.values(), ids=PAGES.keys())
@pytest.mark.parametrize(("state", "instance", "expected"), [(s, i, p) for s, i, p, _ in ROWS])
def test_page_is_shown_or_not_or_clerk_is_asked(
    state: str, instance: str, expected: str, headers: Headers
) -> None:
    assert outcome(judged(state, instance, headers)) == expected


@pytest.mark.parametrize("headers", PROGRAMS.values(), ids=PROGRAMS.keys())
@pytest.mark.parametrize(("state", "instance", "expected"), [(s, i, p) for s, i, _, p in ROWS])
def test_program_is_let_in_or_not_and_never_sent_away(
    state: str, instance: str, expected: str, headers: Headers
) -> None:
    assert outcome(judged(state, instance, headers)) == expected


def test_each_state_has_a_row_for_either_instance() -> None:
    stated = [(state, instance) for state, instance, _, _ in ROWS]

    assert sorted(stated) == sorted((s, i) for s in STATES for i in (DEVELOPMENT, PRODUCTION))


def test_nobody_is_sent_away_without_a_frontend_api() -> None:
    verdict = judges(DEVELOPMENT).resolve(page(jar(token(exp=NOW - 5), SINCE)), None)

    assert (verdict.location, verdict.reason) == (None, "session-token-expired")


def test_program_may_bring_its_token_under_any_suffix() -> None:
    visit = BrowserRequest(URL, {"__session_elsewhere": token()})

    assert outcome(judges(PRODUCTION).resolve(visit, ISSUER)) == IN


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("nothing", "session-token-and-uat-missing"),
        ("bad signature", "token-invalid: InvalidSignatureError"),
    ],
)
def test_reason_for_being_signed_out_is_told(state: str, reason: str) -> None:
    assert judges(PRODUCTION).resolve(STATES[state](), ISSUER).reason == reason


def test_browser_without_a_mark_brings_none_along() -> None:
    assert "__clerk_db_jwt" not in asked(judges(DEVELOPMENT).resolve(page({}), ISSUER))


def test_nobody_is_called_signed_out_while_no_key_is_known() -> None:
    unpublished = TokenVerifier(KeySet(dict), ISSUER)
    doubtful = replace(judges(PRODUCTION), verifier=unpublished)

    with pytest.raises(KeysUnavailableError):
        doubtful.resolve(page(jar(token(), SINCE)), ISSUER)
