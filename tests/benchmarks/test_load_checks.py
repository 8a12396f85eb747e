"""The load test knows a right answer from a wrong one, and a good end from a bad one."""

import pytest

from benchmarks.load_checks import (
    Told,
    Visitor,
    faults_of_a_stampede,
    faults_of_pace,
    faults_of_profiles,
)

JSON = "application/problem+json"
LATER = {"Content-Type": JSON, "Retry-After": "2"}
ERROR_PAGE = '<section class="panel" data-code="database_unavailable">'


def visitor(*profiles: int, was_put_off: bool = False) -> Visitor:
    return Visitor("Ana", {}, set(profiles), was_put_off)


@pytest.mark.parametrize(
    ("told", "kind", "fault"),
    [
        (Told(0, {}, ""), "lost", "the connection broke"),
        (
            Told(503, LATER, '{"code":"database_unavailable"}'),
            "waiting",
            "503 database_unavailable",
        ),
        (Told(503, {"Retry-After": "2"}, ERROR_PAGE), "waiting", "503 database_unavailable"),
        (
            Told(503, {"Content-Type": JSON}, '{"code": "not_configured"}'),
            None,
            "503 not_configured",
        ),
        (Told(503, LATER, "{}"), None, "503 without a code that could be read"),
        (Told(503, {"Retry-After": "2"}, "busy"), None, "503 without a code that could be read"),
        (Told(503, LATER | {"Retry-After": "soon"}, '{"code":"x"}'), None, "503 x"),
        (Told(500, LATER, '{"code":"internal"}'), None, "500 internal"),
        (Told(302, {"Location": "/login"}, ""), None, "302 without a code that could be read"),
    ],
)
def test_refusal_is_called_by_its_code_and_forgivable_only_with_a_way_on(
    told: Told, kind: str | None, fault: str
) -> None:
    assert (told.is_good, told.kind, told.fault) == (False, kind, fault)


@pytest.mark.parametrize(
    ("created", "was_put_off", "faults"),
    [
        ([True, False, False], False, []),
        ([True, None, None], True, []),
        ([False, None, False], True, []),
        ([False, False, False], False, ["0 of 3 devices were told created:true"]),
        ([True, True, False], False, ["2 of 3 devices were told created:true"]),
        ([True, True, None], True, ["2 of 3 devices were told created:true"]),
    ],
)
def test_created_is_told_once_unless_that_answer_was_lost(
    created: list[bool | None], was_put_off: bool, faults: list[str]
) -> None:
    answers = [None if is_told is None else {"created": is_told} for is_told in created]

    assert faults_of_a_stampede(visitor(was_put_off=was_put_off), answers) == faults


@pytest.mark.parametrize(
    ("visitors", "statuses", "faults"),
    [
        ([visitor(1), visitor(2)], ["ready", "ready"], []),
        ([visitor(1, 2)], ["ready"], ["Ana: ready, {1, 2}"]),
        ([visitor()], ["user_blocked"], ["Ana: user_blocked, set()"]),
        ([visitor(1), visitor(1)], ["ready"] * 2, ["one profile was shown to two people"]),
    ],
)
def test_each_has_one_profile_of_their_own(
    visitors: list[Visitor], statuses: list[str], faults: list[str]
) -> None:
    assert faults_of_profiles(visitors, statuses) == faults


def test_first_logins_that_are_slow_or_do_not_happen_are_faults() -> None:
    slow = faults_of_pace({"first login": 2001, "first login, 10 devices": 2000}, 2000)

    assert slow == ["p95 of first login: 2001 ms, more than 2000"]
    assert faults_of_pace({}, 2000) == ["nobody signed in for the first time"]
