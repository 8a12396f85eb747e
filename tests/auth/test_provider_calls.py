"""Calls to the provider are budgeted, shared, limited in time and counted, by purpose."""

from collections.abc import Iterator
from contextlib import suppress
from threading import Event

import pytest
from structlog.testing import capture_logs

from auth.errors import (
    ProviderUnavailableError,
    RateLimitedError,
    UnknownAtProviderError,
    UnusableAnswerError,
)
from auth.provider_calls import WORKERS, ProviderCalls, Purpose, Rate
from core.metrics import REGISTRY
from tests.support.concurrency import Clock

UNAVAILABLE = ProviderUnavailableError("status 500")


@pytest.fixture
def calls(clock: Clock) -> ProviderCalls:
    return ProviderCalls(Rate(100, 0), clock)


@pytest.fixture
def may_answer() -> Iterator[Event]:
    """Set by the test when the slow provider may answer, and in any case at the end."""
    event = Event()
    yield event
    event.set()


def fail(err: Exception) -> object:
    raise err


def call_result(
    calls: ProviderCalls,
    purpose: Purpose,
    key: str = "k",
    err: Exception | None = None,
    name: str = "test",
) -> str:
    """The answer to a call, or the text of its error."""
    work = (lambda: "answer") if err is None else (lambda: str(fail(err)))
    try:
        return calls.run(name, key, work, purpose, wait_seconds=5)
    except (ProviderUnavailableError, UnknownAtProviderError, UnusableAnswerError) as caught:
        return str(caught)


def request_count(result: str, name: str = "test") -> float:
    labels = {"call": name, "result": result}
    return REGISTRY.get_sample_value("identity_provider_requests_total", labels) or 0


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
    before = request_count("error")

    assert call_result(calls, Purpose.SIGNED_IN, err=err) == type(err).__name__
    assert (request_count("error"), calls.is_answering) == (before + 1, False)


def test_error_of_the_client_is_logged_without_its_text(calls: ProviderCalls) -> None:
    with capture_logs() as logs:
        call_result(calls, Purpose.SIGNED_IN, err=ValueError("sk_live_secret"))

    assert [(log["event"], log["error"]) for log in logs] == [
        ("identity_provider_unavailable", "ValueError")
    ]


@pytest.mark.parametrize("err", [UnknownAtProviderError("no"), UnusableAnswerError("422")])
def test_answer_about_one_user_opens_no_circuit(calls: ProviderCalls, err: Exception) -> None:
    call_result(calls, Purpose.SIGNED_IN, err=err)

    assert (calls.is_answering, call_result(calls, Purpose.SIGNED_IN, "other")) == (
        True,
        "answer",
    )


def test_failed_anonymous_call_does_not_stop_calls_for_users(calls: ProviderCalls) -> None:
    call_result(calls, Purpose.ANONYMOUS, err=UNAVAILABLE)

    assert call_result(calls, Purpose.ANONYMOUS, "other") == "the service has just failed"
    assert call_result(calls, Purpose.SIGNED_IN) == "answer"


def test_failed_call_for_a_user_stops_anonymous_calls(calls: ProviderCalls) -> None:
    call_result(calls, Purpose.SIGNED_IN, err=UNAVAILABLE)

    assert call_result(calls, Purpose.ANONYMOUS) == "the service has just failed"


@pytest.mark.parametrize(
    ("failed", "other"),
    [(Purpose.KEYS, Purpose.SIGNED_IN), (Purpose.SIGNED_IN, Purpose.KEYS)],
)
def test_keys_and_users_have_separate_circuit_breakers(
    calls: ProviderCalls, failed: Purpose, other: Purpose
) -> None:
    call_result(calls, failed, err=UNAVAILABLE)

    assert call_result(calls, other) == "answer"


@pytest.mark.parametrize("purpose", [purpose for purpose in Purpose if purpose is not Purpose.KEYS])
def test_rate_limit_of_one_call_stops_all_calls(calls: ProviderCalls, purpose: Purpose) -> None:
    call_result(calls, Purpose.ANONYMOUS, err=RateLimitedError(7))

    assert call_result(calls, purpose) == "the service has asked for rest"


def test_anonymous_calls_leave_budget_for_users(calls: ProviderCalls) -> None:
    anonymous = [call_result(calls, Purpose.ANONYMOUS, str(number)) for number in range(200)]

    assert anonymous.count("answer") == 20
    assert call_result(calls, Purpose.SIGNED_IN) == "answer"


@pytest.mark.parametrize(
    "slow", [purpose for purpose in Purpose if purpose is not Purpose.SIGNED_IN]
)
def test_slow_calls_of_one_purpose_use_no_worker_of_another(
    calls: ProviderCalls, slow: Purpose, may_answer: Event
) -> None:
    refused = 0
    for number in range(20):
        try:
            calls.start("test", number, may_answer.wait, slow)
        except ProviderUnavailableError:
            refused += 1

    assert refused == 20 - min(20, WORKERS[slow][1])
    assert call_result(calls, Purpose.SIGNED_IN) == "answer"


def test_caller_stops_waiting_at_its_deadline(calls: ProviderCalls, may_answer: Event) -> None:
    with pytest.raises(ProviderUnavailableError, match="no answer in time"):
        calls.run("slow", "k", may_answer.wait, Purpose.SIGNED_IN, wait_seconds=0)


def test_equal_calls_use_the_budget_once(clock: Clock, may_answer: Event) -> None:
    calls = ProviderCalls(Rate(1, 0), clock)
    for _ in range(5):
        with suppress(ProviderUnavailableError):
            calls.run("slow", "k", may_answer.wait, Purpose.SIGNED_IN, wait_seconds=0)

    assert call_result(calls, Purpose.SIGNED_IN, "other") == "the budget of calls is spent"


def test_refused_call_is_not_counted_as_a_request(clock: Clock) -> None:
    calls, name = ProviderCalls(Rate(1, 0), clock), "refused"  # other tests' calls may still run

    for number in range(5):
        call_result(calls, Purpose.SIGNED_IN, str(number), name=name)

    assert request_count("ok", name) == 1
