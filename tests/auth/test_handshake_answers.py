"""There and back: what Clerk is asked, what of its answer counts, and when the asking ends."""

from collections.abc import Callable
from urllib.parse import urlencode

import pytest

from auth.cookies import names_of
from auth.errors import RateLimitedError
from auth.handshake import REDIRECT_COUNT_TTL_SECONDS, BrowserRequest, HandshakeDecision
from tests.auth import test_tokens as forge
from tests.auth.test_handshake import SINCE, SUFFIX, URL, asked, jar, judges, outcome, page
from tests.auth.test_tokens import ISSUER, NOW, token

DIRECTIVE = "__client_uat=1; Path=/; Domain=example.com; Secure; SameSite=Lax"
SPENT = "__clerk_handshake=; Path=/; Max-Age=0"
THREE_ROUNDS = {"__clerk_redirect_count": "3"}
FORGOTTEN = "__clerk_redirect_count=; Path=/; Max-Age=0"
PLACES = [
    ("development", "query", (DIRECTIVE,)),
    ("development", "cookie", None),
    ("production", "query", None),
    ("production", "cookie", (DIRECTIVE,)),
]

Fetch = Callable[[str], list[str]]


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jwt.api_jwt.datetime", forge.StoppedClock)


def answer(*directives: object) -> str:
    """As Clerk makes it: with no claim but the one."""
    header = {"alg": "RS256", "typ": "JWT", "kid": forge.KID, "cat": "cl_B7d4PD111AAA"}
    return forge.compact(header, {"handshake": list(directives)}, forge.by_issuer)


def back(place: str = "cookie", **brought: str) -> BrowserRequest:
    return page(brought) if place == "cookie" else page({}, "?" + urlencode(brought))


def kept(*directives: object) -> tuple[str, ...] | None:
    """What is left of an answer with these."""
    visit = back(__clerk_handshake=answer(*directives))
    return judges("production").returns.directives(visit)


def away(nonce: str) -> list[str]:
    raise RateLimitedError(10)


def expired_after(rounds: str) -> HandshakeDecision:
    cookies = {**jar(token(exp=NOW - 5), SINCE), "__clerk_redirect_count": rounds}
    return judges("production").resolve(page(cookies), ISSUER)


@pytest.mark.parametrize(("instance", "place", "read"), PLACES)
def test_answer_is_read_where_this_instance_may_find_it(
    instance: str, place: str, read: tuple[str, ...] | None
) -> None:
    visit = back(place, __clerk_handshake=answer(DIRECTIVE))

    assert judges(instance).returns.directives(visit) == read


@pytest.mark.parametrize(("instance", "place", "read"), PLACES)
def test_nonce_is_read_in_the_same_places_and_goes_before(
    instance: str, place: str, read: tuple[str, ...] | None
) -> None:
    visit = back(place, __clerk_handshake_nonce="n1", __clerk_handshake=answer())
    fetch = {"n1": [DIRECTIVE, "theme=dark"]}.__getitem__

    assert judges(instance, fetch).returns.directives(visit) == read


@pytest.mark.parametrize("fetch", [None, away], ids=["nobody to ask", "provider away"])
def test_nonce_alone_is_no_answer(fetch: Fetch | None) -> None:
    visit = back(__clerk_handshake_nonce="n1")

    assert judges("production", fetch).returns.directives(visit) is None


BAD_ANSWERS: dict[str, Callable[[], str]] = {
    "garbage": lambda: "not.an.answer",
    "another key's": lambda: token(forge.by_stranger, handshake=[DIRECTIVE]),
    "of an unknown key": lambda: token(kid="ins_2", handshake=[DIRECTIVE]),
    "of another class": lambda: token(cat="cl_B7d4PD222AAA", handshake=[DIRECTIVE]),
    "session token": token,
    "directive without its list": lambda: token(handshake=DIRECTIVE),
    "expired": lambda: token(exp=NOW - 5, handshake=[DIRECTIVE]),
}


@pytest.mark.parametrize("make", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_bad_answer_is_none(make: Callable[[], str]) -> None:
    assert judges("production").returns.directives(back(__clerk_handshake=make())) is None


def test_what_is_no_text_is_left_out() -> None:
    assert kept(7, DIRECTIVE, None, [DIRECTIVE]) == (DIRECTIVE,)


@pytest.mark.parametrize("name", sorted(names_of(SUFFIX)))
@pytest.mark.parametrize("rest", ["=", "=v", "=v; Path=/; Max-Age=0", "=a.b-c_d==; HttpOnly"])
def test_cookie_that_keeps_a_session_is_set(name: str, rest: str) -> None:
    assert kept(name + rest) == (name + rest,)


# fmt: off
DROPPED = [
    "theme=dark", "csrf=1; Path=/", "__session_elsewhere=t", "__Host-__session=t", "__sessions=t",
    "", "=t", "__session", "; __session=t", " __session=t", "__session =t", "x; __session=t",
    '"__session"=t', '__session"=t', "__session=a b", "__session=a\tb", "__SESSION=t",
    "__session=t\r\nSet-Cookie: theme=dark", "__session=t; Path=/\r\nX-Header: 1",
    "__session=t\n", "__session=t\r", "__session=t; Path=/\n", "__session=t; Path=/\x00",
    '__session="t"', "__session=t\x00", "__session=\u0142", "__session=t\x7f", "__session=a,b",
]
# fmt: on


@pytest.mark.parametrize("directive", DROPPED)
def test_any_other_directive_is_dropped(directive: str) -> None:
    assert kept(directive, DIRECTIVE) == (DIRECTIVE,)


@pytest.mark.parametrize("name", ["__clerk_handshake", "__clerk_handshake_nonce"])
def test_answer_may_end_the_cookie_that_brought_it(name: str) -> None:
    ending = f"{name}=; Path=/; Domain=example.com; Max-Age=0"  # ours would have another domain

    assert kept(ending) == (ending,)


def test_development_sets_the_cookies_and_cleans_the_address() -> None:
    visit = page({}, f"?aba=metas&__clerk_handshake={answer(DIRECTIVE, 'theme=dark')}")

    verdict = judges("development").resolve(visit, ISSUER)

    assert (verdict.location, verdict.set_cookies) == (f"{URL}?aba=metas", (DIRECTIVE,))


@pytest.mark.parametrize(
    ("query", "clean"),
    [
        ("?__clerk_handshake=a&__clerk_handshake_nonce=b", ""),
        ("?z=&__clerk_db_jwt=c&a=1&__dev_session=d&a=0&__clerk_help=e", "?z=&a=1&a=0"),
        ("?next=%2Fa%3Fb%3D1&q=S%C3%A3o+Lu%C3%ADs", "?next=%2Fa%3Fb%3D1&q=S%C3%A3o+Lu%C3%ADs"),
        ("?__clerk_handshakes=1&x__clerk_help=2", "?__clerk_handshakes=1&x__clerk_help=2"),
    ],
)
def test_clean_address_keeps_what_is_not_clerks(query: str, clean: str) -> None:
    assert page({}, query).clean_url == URL + clean


def test_production_lets_in_at_once_by_what_was_brought() -> None:
    fresh = (f"__session={token()}; Path=/", "__client_uat=; Max-Age=0", f"__client_uat={SINCE}")
    stale = {"__session": token(exp=NOW - 5), "__clerk_handshake": answer(*fresh)}

    verdict = judges("production").resolve(page(stale), ISSUER)

    assert (outcome(verdict), verdict.set_cookies) == ("signed in", (*fresh, SPENT))


def test_production_signs_out_at_once_by_what_was_brought() -> None:
    gone = answer("__session=; Max-Age=0", "__client_uat=0")
    visit = page({"__session": token(), "__client_uat": "1", "__clerk_handshake": gone})

    assert outcome(judges("production").resolve(visit, ISSUER)) == "signed out"


def test_answer_that_settles_nothing_is_spent_before_clerk_is_asked_again() -> None:
    visit = back(__clerk_handshake=answer(DIRECTIVE), __clerk_handshake_nonce="")

    verdict = judges("production").resolve(visit, ISSUER)

    assert outcome(verdict) == "client-uat-but-no-session-token"
    assert {DIRECTIVE, SPENT, SPENT.replace("=", "_nonce=", 1)} < set(verdict.set_cookies)


MARK = {"__clerk_db_jwt": "dvb_2"}


@pytest.mark.parametrize(("instance", "mark"), [("development", MARK), ("production", {})])
def test_clerk_is_told_what_it_needs_to_answer(instance: str, mark: dict[str, str]) -> None:
    visit = page(jar(token(exp=NOW - 5), SINCE, browser="dvb_2"), "?a=S%C3%A3o&__clerk_help=1")

    assert asked(judges(instance).resolve(visit, ISSUER)) == {
        "redirect_url": f"{URL}?a=S%C3%A3o",
        "__clerk_api_version": "2026-05-12",
        "suffixed_cookies": "true",
        "__clerk_hs_reason": "session-token-expired",
        **mark,
    }


def test_clerk_is_told_the_new_mark_and_not_the_old_one() -> None:
    verdict = judges("development").resolve(page(jar(), "?__clerk_db_jwt=dvb_2"), ISSUER + "/")

    told = {"redirect_url": URL, "suffixed_cookies": "false", **MARK}
    assert (verdict.location or "").startswith(f"{ISSUER}/v1/client/handshake?")
    assert told.items() <= asked(verdict).items()


@pytest.mark.parametrize(
    ("rounds", "then"),
    [("", 1), ("1", 2), ("2", 3), ("0", 1), ("-1", 1), ("4", 1), ("x", 1), ("²", 1), (" 1", 1)],
)
def test_round_is_counted_and_what_is_no_count_is_none(rounds: str, then: int) -> None:
    kind = f"Path=/; Max-Age={REDIRECT_COUNT_TTL_SECONDS}; HttpOnly; SameSite=Lax"

    assert expired_after(rounds).set_cookies == (f"__clerk_redirect_count={then}; {kind}",)


def test_after_three_rounds_the_browser_is_signed_out_and_the_count_begins_anew() -> None:
    verdict = expired_after("3")

    assert (outcome(verdict), verdict.is_loop) == ("signed out", True)
    assert verdict.set_cookies == (FORGOTTEN,)


@pytest.mark.parametrize(("brought", "after"), [({}, ()), (THREE_ROUNDS, (FORGOTTEN,))])
def test_success_forgets_the_rounds(brought: dict[str, str], after: tuple[str, ...]) -> None:
    verdict = judges("production").resolve(page({**jar(token(), SINCE), **brought}), ISSUER)

    assert (outcome(verdict), verdict.set_cookies) == ("signed in", after)


def test_token_that_clerk_would_only_send_back_ends_in_an_explanation_too() -> None:
    elsewhere = {**jar(token(azp="https://elsewhere.example.com"), SINCE), **THREE_ROUNDS}

    verdict = judges("production").resolve(page(elsewhere), ISSUER)

    assert (verdict.is_loop, verdict.set_cookies) == (True, (FORGOTTEN,))
