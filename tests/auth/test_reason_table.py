"""The tables of docs/clerk.md: each reason, and what happens to a page and to another request."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from auth.cookies import HANDSHAKE, BrowserRequest
from auth.errors import AuthReason, RefreshReason, TokenReason
from auth.handshake import HandshakeDecision
from tests.auth.test_handshake import (
    DEVELOPMENT,
    EXPIRED,
    PRODUCTION,
    SINCE,
    STATES,
    cookies_of,
    handshake_service,
    page,
    redirect_parameters,
)
from tests.support.session_tokens import compact, signed_by_issuer, token, unsigned

pytestmark = pytest.mark.usefixtures("stopped_clock")

GUIDE = (Path(__file__).parents[2] / "docs" / "clerk.md").read_text(encoding="utf-8")
SECTION = GUIDE.partition("## Why a session is not usable")[2].partition("\n## ")[0]
ROWS = {
    cells[0].strip("`"): (cells[2], cells[3])
    for line in SECTION.splitlines()
    if len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 4
    and cells[0].startswith("`")
}
ENDINGS = set(re.findall(r"^\| `([a-z-]+)` \|[^|]*\|$", SECTION, re.MULTILINE))
ANY_EXPIRED = "session-token-expired-refresh-…"


def with_token(session: str) -> BrowserRequest:
    return page(cookies_of(session, SINCE))


def answer_without_session() -> BrowserRequest:
    answer = compact({"alg": "RS256", "kid": "ins_1"}, {"handshake": []}, signed_by_issuer)
    return page({HANDSHAKE: answer})


# A page request for each reason.
SAMPLES: dict[str, Callable[[], BrowserRequest]] = {
    AuthReason.UAT_WITHOUT_SESSION: STATES["uat without token"],
    AuthReason.SESSION_WITHOUT_UAT: STATES["token without uat"],
    AuthReason.SESSION_BEFORE_UAT: STATES["issued before uat"],
    ANY_EXPIRED: STATES["expired"],
    AuthReason.SESSION_NOT_YET_VALID: STATES["not yet valid"],
    AuthReason.SESSION_FROM_THE_FUTURE: STATES["issued in the future"],
    AuthReason.DEV_BROWSER_MISSING: STATES["signed in, no browser"],
    AuthReason.DEV_BROWSER_SYNC: STATES["signed in, new browser"],
    AuthReason.SESSION_AND_UAT_MISSING: STATES["nothing"],
    AuthReason.SESSION_MISSING: answer_without_session,
    AuthReason.TYPE_MISMATCH: STATES["another class"],
    TokenReason.INVALID: STATES["malformed"],
    TokenReason.INVALID_ALGORITHM: lambda: with_token(token(unsigned, alg="none")),
    TokenReason.INVALID_ISSUER: STATES["another instance's"],
    TokenReason.INVALID_PARTY: lambda: with_token(token(azp="https://other.example.com")),
    TokenReason.INVALID_SIGNATURE: STATES["bad signature"],
    TokenReason.VERIFICATION_FAILED: lambda: with_token(token(sub="")),
    TokenReason.UNKNOWN_KEY: STATES["unknown kid"],
}


def decide(request: BrowserRequest, reason: str) -> HandshakeDecision:
    instance = DEVELOPMENT if reason.startswith("dev-browser") else PRODUCTION
    return handshake_service(instance).resolve(request)


def test_tables_have_each_reason_once() -> None:
    reasons = {*AuthReason, *TokenReason} - {AuthReason.SESSION_EXPIRED}

    assert set(ROWS) == {*map(str, reasons), ANY_EXPIRED}
    assert set(ENDINGS) == set(map(str, RefreshReason))


@pytest.mark.parametrize(("reason", "result"), [(r, page) for r, (page, _) in ROWS.items()])
def test_page_has_the_result_of_the_table(reason: str, result: str) -> None:
    decision = decide(SAMPLES[reason](), reason)

    expected = EXPIRED if reason == ANY_EXPIRED else reason
    sent = redirect_parameters(decision).get("__clerk_hs_reason")
    assert (decision.claims, decision.reason) == (None, expected)
    assert sent == (expected if result == "to Clerk" else None)


@pytest.mark.parametrize(("reason", "result"), [(r, other) for r, (_, other) in ROWS.items()])
def test_other_request_has_the_result_of_the_table(reason: str, result: str) -> None:
    decision = decide(replace(SAMPLES[reason](), is_for_document=False), reason)

    assert decision.location is None
    assert (decision.claims is not None) == (result == "the token decides")
