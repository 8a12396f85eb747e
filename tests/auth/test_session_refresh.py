"""An expired session with a refresh cookie is renewed by one call, without a redirect."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from auth.clerk_calls import REFUSED_REFRESH_SECONDS, RefreshRequest, SessionCalls
from auth.cookies import BrowserRequest
from auth.errors import (
    CallNeededError,
    ProviderUnavailableError,
    RefreshRefusedError,
    UnusableAnswerError,
)
from auth.handshake import HandshakeDecision
from auth.provider_calls import ProviderCalls, Rate
from tests.auth.test_handshake import (
    EXPIRED,
    SINCE,
    SUFFIX,
    URL,
    Cookies,
    cookies_of,
    handshake_service,
    outcome,
    page,
)
from tests.support.concurrency import Clock
from tests.support.session_tokens import NOW, PARTY, signed_by_other_key, token

pytestmark = pytest.mark.usefixtures("stopped_clock")

FRESH = "session-token-expired-refresh-"


class Provider:
    """Records the refresh requests and returns what the test has set."""

    def __init__(self) -> None:
        self.requests: list[RefreshRequest] = []
        self.cookies: list[str] = [f"__session={token()}; Path=/", "theme=dark"]
        self.error: Exception | None = None

    def __call__(self, request: RefreshRequest) -> list[str]:
        self.requests.append(request)
        if self.error is not None:
            raise self.error
        return self.cookies


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def session_calls(provider: Provider, clock: Clock) -> SessionCalls:
    calls = ProviderCalls(Rate(100, 100), clock)
    return SessionCalls(calls, lambda _: None, None, provider, clock)


def expired_cookies(session: str | None = None) -> Cookies:
    expired = token(exp=NOW - 5, sid="sess_1") if session is None else session
    return {**cookies_of(expired, SINCE), f"__refresh_{SUFFIX}": "rt_1"}


def decide(session_calls: SessionCalls, request: BrowserRequest) -> HandshakeDecision:
    service = replace(handshake_service("production"), refresh=session_calls.refresh)
    return service.resolve(request)


def test_expired_session_is_refreshed_without_a_redirect(
    session_calls: SessionCalls, provider: Provider
) -> None:
    decision = decide(session_calls, page(expired_cookies()))

    assert (outcome(decision), decision.set_cookies) == ("signed in", (provider.cookies[0],))


def test_refresh_request_contains_what_clerk_needs(
    session_calls: SessionCalls, provider: Provider
) -> None:
    cookies = expired_cookies()
    decide(session_calls, replace(page(cookies), headers=[("User-Agent", "Firefox")]))

    assert provider.requests == [
        RefreshRequest(
            "sess_1",
            cookies["__session"],
            "rt_1",
            PARTY,
            {"User-Agent": "Firefox"},
            are_suffixed=True,
        )
    ]


def test_refresh_is_not_called_before_the_request_is_counted(
    session_calls: SessionCalls, provider: Provider
) -> None:
    with pytest.raises(CallNeededError):
        decide(session_calls, replace(page(expired_cookies()), may_call=False))

    assert provider.requests == []


def test_request_of_a_script_is_refreshed_as_well(session_calls: SessionCalls) -> None:
    request = replace(page(expired_cookies()), is_for_document=False)

    assert outcome(decide(session_calls, request)) == "signed in"


def test_bearer_token_of_a_page_is_refreshed_by_the_cookie(
    session_calls: SessionCalls, provider: Provider
) -> None:
    service = replace(handshake_service("production"), refresh=session_calls.refresh)
    request = page({f"__refresh_{SUFFIX}": "rt_1"})

    decision = service.resolve_bearer(request, token(exp=NOW - 5, sid="sess_1"))

    assert (outcome(decision), len(provider.requests)) == ("signed in", 1)


def test_simultaneous_requests_with_the_same_cookies_share_one_call(
    session_calls: SessionCalls, provider: Provider
) -> None:
    outcomes = {outcome(decide(session_calls, page(expired_cookies()))) for _ in range(3)}

    assert (outcomes, len(provider.requests)) == ({"signed in"}, 1)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RefreshRefusedError("session_not_found"), "session_not_found"),
        (UnusableAnswerError("400"), "unexpected-bapi-error"),
        (ProviderUnavailableError("status 500"), "fetch-error"),
        (OSError(), "fetch-error"),
    ],
    ids=repr,
)
def test_failed_refresh_redirects_with_its_reason(
    session_calls: SessionCalls, provider: Provider, error: Exception, reason: str
) -> None:
    provider.error = error

    assert outcome(decide(session_calls, page(expired_cookies()))) == f"{FRESH}{reason}"


@pytest.mark.parametrize(
    ("cookies", "reason"),
    [
        (list, "unexpected-sdk-error"),
        (lambda: ["__client_uat=1"], "invalid-session-token"),
        (lambda: [f"__session={token(exp=NOW - 5)}"], "invalid-session-token"),
        (lambda: [f"__session={token(signed_by_other_key)}"], "invalid-session-token"),
        (lambda: [f"__session_elsewhere={token()}"], "invalid-session-token"),
    ],
)
def test_refreshed_cookies_without_a_valid_session_are_not_set(
    session_calls: SessionCalls, provider: Provider, cookies: Callable[[], list[str]], reason: str
) -> None:
    provider.cookies = cookies()

    decision = decide(session_calls, page(expired_cookies()))

    assert outcome(decision) == f"{FRESH}{reason}"
    assert [c for c in decision.set_cookies if not c.startswith("__clerk_redirect_count")] == []


def test_refused_refresh_is_not_tried_again_for_a_minute(
    session_calls: SessionCalls, provider: Provider, clock: Clock
) -> None:
    provider.error = RefreshRefusedError("session_not_found")
    outcomes = {outcome(decide(session_calls, page(expired_cookies()))) for _ in range(3)}
    first = len(provider.requests)

    clock.seconds += REFUSED_REFRESH_SECONDS
    decide(session_calls, page(expired_cookies()))

    assert (outcomes, first) == ({f"{FRESH}session_not_found"}, 1)
    assert len(provider.requests) == 2


INELIGIBLE: dict[str, tuple[Callable[[], BrowserRequest], str]] = {
    "no refresh cookie": (
        lambda: page(cookies_of(token(exp=NOW - 5, sid="sess_1"), SINCE)),
        EXPIRED,
    ),
    "plain refresh cookie": (
        lambda: page({**cookies_of(token(exp=NOW - 5), SINCE), "__refresh": "rt_1"}),
        EXPIRED,
    ),
    "no session id": (
        lambda: page(expired_cookies(token(exp=NOW - 5))),
        f"{FRESH}expired-session-token-missing-sid-claim",
    ),
    "retired key": (
        lambda: page(expired_cookies(token(exp=NOW - 5, sid="sess_1", kid="ins_2"))),
        f"{FRESH}expired-session-token-decode-failed",
    ),
    "early": (
        lambda: page(expired_cookies(token(nbf=NOW + 6, sid="sess_1"))),
        "session-token-nbf",
    ),
    "bad signature": (
        lambda: page(expired_cookies(token(signed_by_other_key, exp=NOW - 5, sid="sess_1"))),
        "signed out",
    ),
}


@pytest.mark.parametrize(("make", "expected"), INELIGIBLE.values(), ids=INELIGIBLE)
def test_session_that_may_not_be_refreshed_causes_no_call(
    session_calls: SessionCalls,
    provider: Provider,
    make: Callable[[], BrowserRequest],
    expected: str,
) -> None:
    assert outcome(decide(session_calls, make())) == expected
    assert provider.requests == []


@pytest.mark.parametrize("method", ["POST", "HEAD"])
def test_write_is_signed_out_and_not_refreshed(
    session_calls: SessionCalls, provider: Provider, method: str
) -> None:
    decision = decide(
        session_calls, replace(page(expired_cookies()), method=method, is_for_document=False)
    )

    assert (outcome(decision), decision.reason) == ("signed out", f"{FRESH}non-eligible-non-get")
    assert provider.requests == []


def test_session_is_not_refreshed_without_a_secret_key() -> None:
    decision = handshake_service("production").resolve(page(expired_cookies()))

    assert outcome(decision) == f"{FRESH}missing-api-client"


BEARERS = {
    "valid": (token, True, "signed in"),
    "expired, page": (lambda: token(exp=NOW - 5), True, EXPIRED),
    "early, page": (lambda: token(nbf=NOW + 6), True, "session-token-nbf"),
    "from the future, page": (
        lambda: token(iat=NOW + 6),
        True,
        "session-token-iat-in-the-future",
    ),
    "expired, program": (lambda: token(exp=NOW - 5), False, "signed out"),
    "malformed, page": (lambda: "not.a.token", True, "signed out"),
}


@pytest.mark.parametrize(("make", "is_page", "expected"), BEARERS.values(), ids=BEARERS)
def test_page_with_an_untimely_bearer_token_goes_to_the_handshake(
    make: Callable[[], str], is_page: bool, expected: str
) -> None:
    request = BrowserRequest(URL, {}, is_for_document=is_page)

    decision = handshake_service("production").resolve_bearer(request, make())

    assert outcome(decision) == expected


def test_bearer_token_of_a_page_is_sent_to_the_handshake() -> None:
    expired = token(exp=NOW - 5)
    decision = handshake_service("production").resolve_bearer(page({}), expired)

    assert f"__session={expired}" in (decision.location or "")
