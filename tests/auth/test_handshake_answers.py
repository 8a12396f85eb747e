"""The handshake with Clerk: the redirect's parameters, accepted answers, and the redirect limit."""

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlencode

import pytest

from auth.cookies import BrowserRequest, session_cookie_names
from auth.errors import RateLimitedError
from auth.handshake import REDIRECT_COUNT_TTL_SECONDS, HandshakeDecision
from tests.auth.test_handshake import (
    EXPIRED,
    SINCE,
    SUFFIX,
    URL,
    cookies_of,
    handshake_service,
    outcome,
    page,
    redirect_parameters,
)
from tests.support import session_tokens
from tests.support.session_tokens import ISSUER, NOW, token

pytestmark = pytest.mark.usefixtures("stopped_clock")

DIRECTIVE = "__client_uat=1; Path=/; Domain=example.com; Secure; SameSite=Lax"
DELETE_HANDSHAKE = "__clerk_handshake=; Path=/; Max-Age=0"
THREE_REDIRECTS = {"__clerk_redirect_count": "3"}
DELETE_COUNT = "__clerk_redirect_count=; Path=/; Max-Age=0"
CASES = [
    ("development", "query", (DIRECTIVE,)),
    ("development", "cookie", None),
    ("production", "query", None),
    ("production", "cookie", (DIRECTIVE,)),
]

Fetch = Callable[[str], list[str]]


def answer(*directives: object) -> str:
    """A handshake answer as Clerk signs it: with one claim only."""
    header = {"alg": "RS256", "typ": "JWT", "kid": session_tokens.KID, "cat": "cl_B7d4PD111AAA"}
    return session_tokens.compact(
        header, {"handshake": list(directives)}, session_tokens.signed_by_issuer
    )


def request_with(place: str = "cookie", **parameters: str) -> BrowserRequest:
    return page(parameters) if place == "cookie" else page({}, "?" + urlencode(parameters))


def accepted(*directives: object) -> tuple[str, ...] | None:
    """The directives that are accepted from an answer with these directives."""
    request = request_with(__clerk_handshake=answer(*directives))
    return handshake_service("production").reader.directives(request)


def raise_rate_limited(nonce: str) -> list[str]:
    raise RateLimitedError(10)


def decide_after(count: str) -> HandshakeDecision:
    cookies = {**cookies_of(token(exp=NOW - 5), SINCE), "__clerk_redirect_count": count}
    return handshake_service("production").resolve(page(cookies))


@pytest.mark.parametrize(("instance", "place", "read"), CASES)
def test_answer_is_read_from_the_place_of_the_instance(
    instance: str, place: str, read: tuple[str, ...] | None
) -> None:
    request = request_with(place, __clerk_handshake=answer(DIRECTIVE))

    assert handshake_service(instance).reader.directives(request) == read


@pytest.mark.parametrize(("instance", "place", "read"), CASES)
def test_nonce_is_read_from_the_same_place_and_takes_precedence(
    instance: str, place: str, read: tuple[str, ...] | None
) -> None:
    request = request_with(place, __clerk_handshake_nonce="n1", __clerk_handshake=answer())
    fetch = {"n1": [DIRECTIVE, "theme=dark"]}.__getitem__

    assert handshake_service(instance, fetch).reader.directives(request) == read


@pytest.mark.parametrize("fetch", [None, raise_rate_limited], ids=["no client", "rate limited"])
def test_nonce_that_cannot_be_exchanged_is_no_answer(fetch: Fetch | None) -> None:
    request = request_with(__clerk_handshake_nonce="n1")

    assert handshake_service("production", fetch).reader.directives(request) is None


@pytest.mark.parametrize("place", ["production", "development"])
def test_signed_answer_is_asked_for_after_a_nonce_that_could_not_be_exchanged(place: str) -> None:
    with_nonce = (
        page({**cookies_of(uat=SINCE), "__clerk_handshake_nonce": "n1"})
        if place == "production"
        else page(cookies_of(uat=SINCE), "?__clerk_handshake_nonce=n1")
    )

    decision = handshake_service(place, raise_rate_limited).resolve(with_nonce)

    assert decision.location is not None
    assert "format" not in redirect_parameters(decision)


def test_signed_answer_is_asked_for_while_no_nonce_can_be_exchanged() -> None:
    service = handshake_service("development", lambda _: [])
    reader = replace(service.reader, can_exchange=lambda: False)

    decision = replace(service, reader=reader).resolve(page(cookies_of(uat=SINCE)))

    assert "format" not in redirect_parameters(decision)


def test_browser_without_a_session_is_not_signed_out_by_an_unread_nonce() -> None:
    request = page({"__clerk_db_jwt": "browser"}, "?__clerk_handshake_nonce=n1")

    decision = handshake_service("development", raise_rate_limited).resolve(request)

    assert "format" not in redirect_parameters(decision)


def test_signed_answer_counts_beside_a_nonce_that_cannot_be_exchanged() -> None:
    request = request_with(__clerk_handshake_nonce="n1", __clerk_handshake=answer(DIRECTIVE))

    directives = handshake_service("production", raise_rate_limited).reader.directives(request)

    assert directives == (DIRECTIVE,)


BAD_ANSWERS: dict[str, Callable[[], str]] = {
    "garbage": lambda: "not.an.answer",
    "another key's": lambda: token(session_tokens.signed_by_other_key, handshake=[DIRECTIVE]),
    "of an unknown key": lambda: token(kid="ins_2", handshake=[DIRECTIVE]),
    "of another class": lambda: token(cat="cl_B7d4PD222AAA", handshake=[DIRECTIVE]),
    "session token": token,
    "directive without its list": lambda: token(handshake=DIRECTIVE),
    "expired": lambda: token(exp=NOW - 5, handshake=[DIRECTIVE]),
}


@pytest.mark.parametrize("make", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_invalid_answer_is_ignored(make: Callable[[], str]) -> None:
    assert (
        handshake_service("production").reader.directives(request_with(__clerk_handshake=make()))
        is None
    )


def test_directive_that_is_no_text_is_ignored() -> None:
    assert accepted(7, DIRECTIVE, None, [DIRECTIVE]) == (DIRECTIVE,)


@pytest.mark.parametrize("name", sorted(session_cookie_names(SUFFIX)))
@pytest.mark.parametrize("value", ["=", "=v", "=v; Path=/; Max-Age=0", "=a.b-c_d==; HttpOnly"])
def test_session_cookie_is_set(name: str, value: str) -> None:
    assert accepted(name + value) == (name + value,)


# fmt: off
IGNORED = [
    "theme=dark", "csrf=1; Path=/", "__session_elsewhere=t", "__Host-__session=t", "__sessions=t",
    "", "=t", "__session", "; __session=t", " __session=t", "__session =t", "x; __session=t",
    '"__session"=t', '__session"=t', "__session=a b", "__session=a\tb", "__SESSION=t",
    "__session=t\r\nSet-Cookie: theme=dark", "__session=t; Path=/\r\nX-Header: 1",
    "__session=t\n", "__session=t\r", "__session=t; Path=/\n", "__session=t; Path=/\x00",
    '__session="t"', "__session=t\x00", "__session=\u0142", "__session=t\x7f", "__session=a,b",
]
# fmt: on


@pytest.mark.parametrize("directive", IGNORED)
def test_any_other_directive_is_ignored(directive: str) -> None:
    assert accepted(directive, DIRECTIVE) == (DIRECTIVE,)


@pytest.mark.parametrize("name", ["__clerk_handshake", "__clerk_handshake_nonce"])
def test_answer_may_delete_the_cookie_that_carried_it(name: str) -> None:
    # a deletion by the app itself could have another domain
    deletion = f"{name}=; Path=/; Domain=example.com; Max-Age=0"

    assert accepted(deletion) == (deletion,)


def test_development_sets_the_cookies_and_redirects_to_the_clean_url() -> None:
    request = page({}, f"?aba=metas&__clerk_handshake={answer(DIRECTIVE, 'theme=dark')}")

    decision = handshake_service("development").resolve(request)

    assert (decision.location, decision.set_cookies) == (f"{URL}?aba=metas", (DIRECTIVE,))


@pytest.mark.parametrize(
    ("query", "clean"),
    [
        ("?__clerk_handshake=a&__clerk_handshake_nonce=b", ""),
        ("?z=&__clerk_db_jwt=c&a=1&__dev_session=d&a=0&__clerk_help=e", "?z=&a=1&a=0"),
        ("?next=%2Fa%3Fb%3D1&q=S%C3%A3o+Lu%C3%ADs", "?next=%2Fa%3Fb%3D1&q=S%C3%A3o+Lu%C3%ADs"),
        ("?__clerk_handshakes=1&x__clerk_help=2", "?__clerk_handshakes=1&x__clerk_help=2"),
    ],
)
def test_clean_url_keeps_other_parameters(query: str, clean: str) -> None:
    assert page({}, query).clean_url == URL + clean


def test_production_signs_in_at_once_with_the_cookies_of_the_answer() -> None:
    fresh = (f"__session={token()}; Path=/", "__client_uat=; Max-Age=0", f"__client_uat={SINCE}")
    stale = {"__session": token(exp=NOW - 5), "__clerk_handshake": answer(*fresh)}

    decision = handshake_service("production").resolve(page(stale))

    assert (outcome(decision), decision.set_cookies) == ("signed in", (*fresh, DELETE_HANDSHAKE))


def test_production_signs_out_at_once_with_the_cookies_of_the_answer() -> None:
    sign_out = answer("__session=; Max-Age=0", "__client_uat=0")
    request = page({"__session": token(), "__client_uat": "1", "__clerk_handshake": sign_out})

    decision = handshake_service("production").resolve(request)

    assert (outcome(decision), decision.reason) == ("signed out", "session-token-missing")


@pytest.mark.parametrize("directives", [(), (DIRECTIVE,), ("__client_uat=9999999999",)])
def test_answer_without_session_signs_out_whatever_its_client_uat(
    directives: tuple[str, ...],
) -> None:
    request = request_with(__clerk_handshake=answer(*directives), __clerk_handshake_nonce="")

    decision = handshake_service("production").resolve(request)

    assert (outcome(decision), decision.reason) == ("signed out", "session-token-missing")
    assert set(decision.set_cookies) == {
        *directives,
        DELETE_HANDSHAKE,
        DELETE_HANDSHAKE.replace("=", "_nonce=", 1),
    }


@pytest.mark.parametrize("uat", ["", "__client_uat=0", "__client_uat=9999999999"])
def test_answer_is_judged_by_its_session_alone(uat: str) -> None:
    fresh = [f"__session={token()}; Path=/", *([uat] if uat else [])]
    request = page({"__client_uat": "0", "__clerk_handshake": answer(*fresh)})

    assert outcome(handshake_service("production").resolve(request)) == "signed in"


@pytest.mark.parametrize(
    ("session", "reason"),
    [
        (lambda: token(exp=NOW - 5), "client-uat-but-no-session-token"),
        (lambda: token(session_tokens.signed_by_other_key), "client-uat-but-no-session-token"),
    ],
)
def test_invalid_session_of_an_answer_leaves_the_decision_to_the_own_cookies(
    session: Callable[[], str], reason: str
) -> None:
    result = answer(f"__session={session()}", DIRECTIVE)
    request = page({"__client_uat": str(SINCE), "__clerk_handshake": result})

    decision = handshake_service("production").resolve(request)

    assert outcome(decision) == reason
    assert DELETE_HANDSHAKE in decision.set_cookies
    assert DIRECTIVE not in decision.set_cookies


DEV_BROWSER = {"__clerk_db_jwt": "dvb_2"}


@pytest.mark.parametrize(
    ("instance", "dev_browser"), [("development", DEV_BROWSER), ("production", {})]
)
@pytest.mark.parametrize(
    ("exchange", "nonce_format"), [(None, {}), (lambda _: [], {"format": "nonce"})]
)
def test_redirect_contains_the_parameters_that_clerk_needs(
    instance: str,
    dev_browser: dict[str, str],
    exchange: Fetch | None,
    nonce_format: dict[str, str],
) -> None:
    expired = token(exp=NOW - 5)
    request = page(cookies_of(expired, SINCE, browser="dvb_2"), "?a=S%C3%A3o&__clerk_help=1")

    assert redirect_parameters(handshake_service(instance, exchange).resolve(request)) == {
        "redirect_url": f"{URL}?a=S%C3%A3o",
        "__clerk_api_version": "2026-05-12",
        "suffixed_cookies": "true",
        "__clerk_hs_reason": EXPIRED,
        "__session": expired,
        **nonce_format,
        **dev_browser,
    }


@pytest.mark.parametrize("session", ["", "x" * 4_097])
def test_redirect_contains_no_session_that_is_missing_or_too_long(session: str) -> None:
    request = page(cookies_of(session, 0 if session else SINCE))

    decision = handshake_service("production").resolve(request)

    assert decision.location is not None
    assert "__session" not in redirect_parameters(decision)


def test_redirect_contains_the_new_dev_browser() -> None:
    service = replace(handshake_service("development"), frontend_api=ISSUER + "/")

    decision = service.resolve(page(cookies_of(), "?__clerk_db_jwt=dvb_2"))

    expected = {"redirect_url": URL, "suffixed_cookies": "false", **DEV_BROWSER}
    assert (decision.location or "").startswith(f"{ISSUER}/v1/client/handshake?")
    assert expected.items() <= redirect_parameters(decision).items()


@pytest.mark.parametrize(
    ("count", "next_count"),
    [("", 1), ("1", 2), ("2", 3), ("0", 1), ("-1", 1), ("4", 1), ("x", 1), ("²", 1), (" 1", 1)],
)
def test_redirect_is_counted_and_a_malformed_count_starts_again(
    count: str, next_count: int
) -> None:
    attributes = f"Path=/; Max-Age={REDIRECT_COUNT_TTL_SECONDS}; HttpOnly; SameSite=Lax"

    assert decide_after(count).set_cookies == (
        f"__clerk_redirect_count={next_count}; {attributes}",
    )


def test_fourth_redirect_is_a_loop_and_resets_the_count() -> None:
    decision = decide_after("3")

    assert (outcome(decision), decision.is_loop) == ("signed out", True)
    assert decision.set_cookies == (DELETE_COUNT,)


@pytest.mark.parametrize(("parameters", "after"), [({}, ()), (THREE_REDIRECTS, (DELETE_COUNT,))])
def test_successful_sign_in_deletes_the_count(
    parameters: dict[str, str], after: tuple[str, ...]
) -> None:
    request = page({**cookies_of(token(), SINCE), **parameters})

    decision = handshake_service("production").resolve(request)

    assert (outcome(decision), decision.set_cookies) == ("signed in", after)


def test_token_of_another_party_is_a_loop_after_three_redirects() -> None:
    elsewhere = {**cookies_of(token(azp="https://elsewhere.example.com"), SINCE), **THREE_REDIRECTS}

    decision = handshake_service("production").resolve(page(elsewhere))

    assert (decision.is_loop, decision.set_cookies) == (True, (DELETE_COUNT,))
