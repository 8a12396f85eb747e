"""The load test distinguishes right from wrong responses and profiles."""

import pytest

from benchmarks.load_checks import (
    Answer,
    Visitor,
    check_login_times,
    check_profiles,
    check_stampede,
)

JSON = "application/problem+json"
RETRY_HEADERS = {"Content-Type": JSON, "Retry-After": "2"}
ERROR_PAGE = '<section class="panel" data-code="database_unavailable">'


def visitor(*profiles: int, was_put_off: bool = False) -> Visitor:
    return Visitor("Ana", {}, set(profiles), was_put_off)


@pytest.mark.parametrize(
    ("response", "kind", "fault"),
    [
        (Answer(0, {}, ""), "lost", "the connection broke"),
        (
            Answer(503, RETRY_HEADERS, '{"code":"database_unavailable"}'),
            "waiting",
            "503 database_unavailable",
        ),
        (Answer(503, {"Retry-After": "2"}, ERROR_PAGE), "waiting", "503 database_unavailable"),
        (
            Answer(503, {"Content-Type": JSON}, '{"code": "not_configured"}'),
            None,
            "503 not_configured",
        ),
        (Answer(503, RETRY_HEADERS, "{}"), None, "503 without a code that could be read"),
        (Answer(503, {"Retry-After": "2"}, "busy"), None, "503 without a code that could be read"),
        (Answer(503, RETRY_HEADERS | {"Retry-After": "soon"}, '{"code":"x"}'), None, "503 x"),
        (Answer(500, RETRY_HEADERS, '{"code":"internal"}'), None, "500 internal"),
        (Answer(302, {"Location": "/login"}, ""), None, "302 without a code that could be read"),
    ],
)
def test_refusal_is_named_by_its_code_and_excusable_only_with_a_retry(
    response: Answer, kind: str | None, fault: str
) -> None:
    assert (response.is_good, response.kind, response.fault) == (False, kind, fault)


@pytest.mark.parametrize(
    ("created", "was_put_off", "faults"),
    [
        ([True, False, False], False, []),
        ([True, None, None], True, []),
        ([False, None, False], True, []),
        ([False, False, False], False, ["0 of 3 devices received created:true"]),
        ([True, True, False], False, ["2 of 3 devices received created:true"]),
        ([True, True, None], True, ["2 of 3 devices received created:true"]),
    ],
)
def test_created_is_returned_once_unless_that_response_was_lost(
    created: list[bool | None], was_put_off: bool, faults: list[str]
) -> None:
    documents = [None if is_created is None else {"created": is_created} for is_created in created]

    assert check_stampede(visitor(was_put_off=was_put_off), documents) == faults


@pytest.mark.parametrize(
    ("visitors", "statuses", "faults"),
    [
        ([visitor(1), visitor(2)], ["ready", "ready"], []),
        ([visitor(1, 2)], ["ready"], ["Ana: ready, {1, 2}"]),
        ([visitor()], ["user_blocked"], ["Ana: user_blocked, set()"]),
        ([visitor(1), visitor(1)], ["ready"] * 2, ["one profile was shown to two people"]),
    ],
)
def test_each_user_has_exactly_one_profile(
    visitors: list[Visitor], statuses: list[str], faults: list[str]
) -> None:
    assert check_profiles(visitors, statuses) == faults


def test_slow_or_missing_first_logins_are_faults() -> None:
    slow = check_login_times({"first login": 2001, "first login, 10 devices": 2000}, 2000)

    assert slow == ["p95 of first login: 2001 ms, more than 2000"]
    assert check_login_times({}, 2000) == ["no user signed in for the first time"]
