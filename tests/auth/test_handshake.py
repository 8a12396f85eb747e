"""The handshake decides by the cookies: signed in, signed out, or redirect to Clerk."""

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import pytest

from auth.cookies import BrowserRequest, HandshakeReader
from auth.errors import KeysUnavailableError
from auth.handshake import HandshakeDecision, HandshakeService
from auth.jwks import KeySet
from auth.tokens import TokenVerifier
from tests.support.session_tokens import (
    ISSUER,
    NOW,
    signed_by_other_key,
    token,
    verifier,
)

pytestmark = pytest.mark.usefixtures("stopped_clock")

SUFFIX = "naoXFJnI"
URL = "https://app.example.com/painel"
SINCE = NOW - 100  # when the browser signed in
IN, OUT = "signed in", "signed out"
EXPIRED = "session-token-expired-refresh-non-eligible-no-refresh-cookie"
DEVELOPMENT, PRODUCTION = "development", "production"

Cookies = dict[str, str]


def handshake_service(
    instance: str, fetch: Callable[[str], list[str]] | None = None, suffix: str | None = SUFFIX
) -> HandshakeService:
    answers = HandshakeReader(verifier(), suffix, instance == DEVELOPMENT, fetch)
    return HandshakeService(verifier(), answers, frontend_api=ISSUER)


def cookies_of(session: str = "", uat: object = "", *, browser: str = "dvb_1") -> Cookies:
    """Cookies as Clerk sets them: each under the plain and the suffixed name."""
    values = {"__session": session, "__client_uat": str(uat), "__clerk_db_jwt": browser}
    named = {name: value for name, value in values.items() if value}
    return {**named, **{f"{name}_{SUFFIX}": value for name, value in named.items()}}


def page(cookies: Cookies, query: str = "") -> BrowserRequest:
    return BrowserRequest(URL + query, cookies, is_for_document=True)


def redirect_parameters(decision: HandshakeDecision) -> dict[str, str]:
    """The query parameters of the redirect to Clerk."""
    return dict(parse_qsl(urlsplit(decision.location or "").query, keep_blank_values=True))


def outcome(decision: HandshakeDecision) -> str:
    if decision.location is not None:
        return redirect_parameters(decision)["__clerk_hs_reason"]
    return IN if decision.claims else OUT


STATES: dict[str, Callable[[], BrowserRequest]] = {
    "signed in": lambda: page(cookies_of(token(), SINCE)),
    "signed in at this second": lambda: page(cookies_of(token(), NOW)),
    "nothing": lambda: page(cookies_of()),
    "uat 0": lambda: page(cookies_of(uat=0)),
    "token without uat": lambda: page(cookies_of(token())),
    "token with uat 0": lambda: page(cookies_of(token(), 0)),
    "token with a word for uat": lambda: page(cookies_of(token(), "yesterday")),
    "uat without token": lambda: page(cookies_of(uat=SINCE)),
    "issued before uat": lambda: page(cookies_of(token(iat=SINCE - 1), SINCE)),
    "expired": lambda: page(cookies_of(token(exp=NOW - 5), SINCE)),
    "expired, new to this site": lambda: page(cookies_of(token(exp=NOW - 5))),
    "not yet valid": lambda: page(cookies_of(token(nbf=NOW + 6), SINCE)),
    "issued in the future": lambda: page(cookies_of(token(iat=NOW + 6), SINCE)),
    "malformed": lambda: page(cookies_of("not.a.token", SINCE)),
    "another class": lambda: page(cookies_of(token(cat="cl_B7d4PD222AAA"), SINCE)),
    "another class, expired": lambda: page(
        cookies_of(token(cat="cl_B7d4PD222AAA", exp=NOW - 5), SINCE)
    ),
    "bad signature": lambda: page(cookies_of(token(signed_by_other_key), SINCE)),
    "bad signature, expired": lambda: page(
        cookies_of(token(signed_by_other_key, exp=NOW - 5), SINCE)
    ),
    "unknown kid": lambda: page(cookies_of(token(kid="ins_2"), SINCE)),
    "retired key": lambda: page(cookies_of(token(kid="ins_2", exp=NOW - 5), SINCE)),
    "another instance's": lambda: page(cookies_of(token(iss="https://clerk.example.org"), SINCE)),
    "signed in, no browser": lambda: page(cookies_of(token(), SINCE, browser="")),
    "nothing, no browser": lambda: page({}),
    "no uat, no browser": lambda: page(cookies_of(token(), browser="")),
    "signed in, new browser": lambda: page(cookies_of(token(), SINCE), "?__clerk_db_jwt=dvb_2"),
    "nothing, new browser": lambda: page({}, "?__clerk_db_jwt=dvb_2"),
}

# Expected results: for a page load, and for a request that cannot follow a redirect to Clerk.
# fmt: off
CASES: list[tuple[str, str, str, str]] = [
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
    ("expired",                   DEVELOPMENT, EXPIRED, OUT),
    ("expired",                   PRODUCTION,  EXPIRED, OUT),
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
    ("retired key",               DEVELOPMENT, EXPIRED, OUT),
    ("retired key",               PRODUCTION,  EXPIRED, OUT),
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


def decide(state: str, instance: str, *, is_for_document: bool) -> HandshakeDecision:
    request = replace(STATES[state](), is_for_document=is_for_document)
    return handshake_service(instance).resolve(request)


@pytest.mark.parametrize(("state", "instance", "expected"), [(s, i, p) for s, i, p, _ in CASES])
def test_page_load_is_signed_in_or_out_or_redirected(
    state: str, instance: str, expected: str
) -> None:
    assert outcome(decide(state, instance, is_for_document=True)) == expected


@pytest.mark.parametrize(("state", "instance", "expected"), [(s, i, p) for s, i, _, p in CASES])
def test_other_request_is_signed_in_or_out_and_never_redirected(
    state: str, instance: str, expected: str
) -> None:
    assert outcome(decide(state, instance, is_for_document=False)) == expected


def test_each_state_has_a_case_for_each_instance() -> None:
    cases = [(state, instance) for state, instance, _, _ in CASES]

    assert sorted(cases) == sorted((s, i) for s in STATES for i in (DEVELOPMENT, PRODUCTION))


def test_no_redirect_without_a_frontend_api() -> None:
    service = replace(handshake_service(DEVELOPMENT), frontend_api="")

    decision = service.resolve(page(cookies_of(token(exp=NOW - 5), SINCE)))

    assert (decision.location, decision.reason) == (None, EXPIRED)


def test_api_request_may_use_a_token_with_any_suffix() -> None:
    request = BrowserRequest(URL, {"__session_elsewhere": token()})

    assert outcome(handshake_service(PRODUCTION).resolve(request)) == IN


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("nothing", "session-token-and-uat-missing"),
        ("bad signature", "token-invalid-signature"),
        ("malformed", "token-invalid"),
        ("another class", "token-type-mismatch"),
        ("unknown kid", "jwk-kid-mismatch"),
        ("another instance's", "token-invalid-issuer"),
    ],
)
def test_decision_contains_the_reason_for_signed_out(state: str, reason: str) -> None:
    assert handshake_service(PRODUCTION).resolve(STATES[state]()).reason == reason


def test_redirect_without_dev_browser_cookie_has_no_dev_browser() -> None:
    assert "__clerk_db_jwt" not in redirect_parameters(
        handshake_service(DEVELOPMENT).resolve(page({}))
    )


def test_decision_fails_while_no_key_is_known() -> None:
    without_keys = TokenVerifier(KeySet(dict), ISSUER)
    service = replace(handshake_service(PRODUCTION), verifier=without_keys)

    with pytest.raises(KeysUnavailableError):
        service.resolve(page(cookies_of(token(), SINCE)))
