"""Calls to the provider: paid for, shared, bounded, counted; no kind at the cost of another."""

from collections.abc import Iterator
from contextlib import suppress
from threading import Event

import pytest
from structlog.testing import capture_logs

from auth.call_budget import Rate, Share
from auth.errors import (
    ProviderUnavailableError,
    RateLimitedError,
    UnknownUserError,
    UnusableAnswerError,
)
from auth.provider_calls import WORKERS, ProviderCalls
from core.metrics import OURS
from tests.support.concurrency import Clock

AWAY = ProviderUnavailableError("status 500")


@pytest.fixture
def calls(clock: Clock) -> ProviderCalls:
    return ProviderCalls(Rate(100, 0), clock)


@pytest.fixture
def answers_after() -> Iterator[Event]:
    """Set by the test when a slow provider shall answer, and at its end in any case."""
    event = Event()
    yield event
    event.set()


def failing(err: Exception) -> object:
    raise err


def made(calls: ProviderCalls, share: Share, key: str = "k", err: Exception | None = None) -> str:
    """The answer to a call, or why there is none."""
    work = (lambda: "answer") if err is None else (lambda: str(failing(err)))
    try:
        return calls.run("test", key, work, share, wait_seconds=5)
    except (ProviderUnavailableError, UnknownUserError, UnusableAnswerError) as caught:
        return str(caught)


def counted(result: str) -> float:
    labels = {"call": "test", "result": result}
    return OURS.get_sample_value("identity_provider_requests_total", labels) or 0


@pytest.mark.parametrize(
    "err",
    [
        ValueError("bad"),
        UnicodeEncodeError("ascii", "…", 0, 1, "no"),
        TimeoutError(),
        MemoryError(),
    ],
    ids=lambda err: type(err).__name__,
)
def test_any_error_of_the_client_means_unavailable(calls: ProviderCalls, err: Exception) -> None:
    before = counted("error")

    assert made(calls, Share.SIGNED_IN, err=err) == type(err).__name__
    assert (counted("error"), calls.is_answering) == (before + 1, False)


def test_error_of_the_client_is_logged_without_its_text(calls: ProviderCalls) -> None:
    with capture_logs() as logs:
        made(calls, Share.SIGNED_IN, err=ValueError("sk_live_secret"))

    assert [(log["event"], log["error"]) for log in logs] == [
        ("identity_provider_unavailable", "ValueError")
    ]


@pytest.mark.parametrize("err", [UnknownUserError("no"), UnusableAnswerError("422")])
def test_answer_about_one_user_opens_no_circuit(calls: ProviderCalls, err: Exception) -> None:
    made(calls, Share.SIGNED_IN, err=err)

    assert (calls.is_answering, made(calls, Share.SIGNED_IN, "other")) == (True, "answer")


def test_failed_anonymous_call_closes_the_provider_to_no_user(calls: ProviderCalls) -> None:
    made(calls, Share.ANONYMOUS, err=AWAY)

    assert made(calls, Share.ANONYMOUS, "other") == "the provider has just failed"
    assert made(calls, Share.SIGNED_IN) == "answer"


def test_failed_call_of_a_user_closes_the_provider_to_anonymous_calls(calls: ProviderCalls) -> None:
    made(calls, Share.SIGNED_IN, err=AWAY)

    assert made(calls, Share.ANONYMOUS) == "the provider has just failed"


@pytest.mark.parametrize(
    ("failed", "other"), [(Share.KEYS, Share.SIGNED_IN), (Share.SIGNED_IN, Share.KEYS)]
)
def test_hosts_of_keys_and_users_fail_apart(
    calls: ProviderCalls, failed: Share, other: Share
) -> None:
    made(calls, failed, err=AWAY)

    assert made(calls, other) == "answer"


@pytest.mark.parametrize("share", [share for share in Share if share is not Share.KEYS])
def test_rest_that_any_call_was_told_of_holds_for_all(calls: ProviderCalls, share: Share) -> None:
    made(calls, Share.ANONYMOUS, err=RateLimitedError(7))

    assert made(calls, share) == "the provider has asked for rest"


def test_anonymous_calls_leave_budget_to_users(calls: ProviderCalls) -> None:
    anonymous = [made(calls, Share.ANONYMOUS, str(number)) for number in range(200)]

    assert anonymous.count("answer") == 20
    assert made(calls, Share.SIGNED_IN) == "answer"


@pytest.mark.parametrize("slow", [share for share in Share if share is not Share.SIGNED_IN])
def test_slow_calls_of_one_share_take_no_worker_of_another(
    calls: ProviderCalls, slow: Share, answers_after: Event
) -> None:
    refused = 0
    for number in range(20):
        try:
            calls.start("test", number, answers_after.wait, slow)
        except ProviderUnavailableError:
            refused += 1

    assert refused == 20 - min(20, WORKERS[slow][1])
    assert made(calls, Share.SIGNED_IN) == "answer"


def test_caller_leaves_at_its_deadline(calls: ProviderCalls, answers_after: Event) -> None:
    with pytest.raises(ProviderUnavailableError, match="no answer in time"):
        calls.run("test", "k", answers_after.wait, Share.SIGNED_IN, wait_seconds=0)


def test_equal_calls_are_paid_once(clock: Clock, answers_after: Event) -> None:
    calls = ProviderCalls(Rate(1, 0), clock)
    for _ in range(5):
        with suppress(ProviderUnavailableError):
            calls.run("test", "k", answers_after.wait, Share.SIGNED_IN, wait_seconds=0)

    assert made(calls, Share.SIGNED_IN, "other") == "the budget of calls is spent"


def test_refused_call_is_not_counted_as_a_request(clock: Clock) -> None:
    calls, before = ProviderCalls(Rate(1, 0), clock), counted("ok")

    for number in range(5):
        made(calls, Share.SIGNED_IN, str(number))

    assert counted("ok") == before + 1
