"""The rules of a chaos run find each violation, and only violations, in constructed records."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.chaos_rules import (
    ADMINISTRATION,
    PROFILE,
    Answer,
    Change,
    Command,
    Interval,
    Memory,
    Record,
    Shown,
    judge,
    notes,
)

EVA, ANA = "user_eva", "user_ana"
OK = Answer(
    operation="read",
    host="first",
    method="GET",
    path="/api/mentorados/me",
    clerk_id=EVA,
    request_id="r1",
    started=100.0,
    ended=100.2,
    status=200,
    shown=Shown(PROFILE, EVA, owner_id=1, mentorado_id=7),
)
REFUSED = replace(OK, status=403, code="user_blocked", shown=Shown())
VERIFIED_OWNER = {
    "clerk_id": EVA,
    "address": "eva@example.com",
    "verified": True,
    "blocked": False,
    "deleted": False,
}


def rules_broken(**observed: Any) -> list[str]:
    return [violation.rule for violation in judge(Record(**observed))]


def change(
    table: str,
    new: Mapping[str, Any],
    *,
    at: float = 50.0,
    old: Mapping[str, Any] | None = None,
    owner: Mapping[str, Any] | None = None,
    transaction: int | None = None,
) -> Change:
    """A change in a transaction of its own, or in the given transaction."""
    number = round(at * 1000) if transaction is None else transaction
    return Change(number, number, at, table, old or {}, new, owner or {})


def user(at: float, user_id: int = 1, clerk_id: str = EVA, **flags: bool) -> Change:
    defaults = {"blocked": False, "deleted": False, "is_admin": False}
    return change("users", {"id": user_id, "clerk_id": clerk_id, **defaults, **flags}, at=at)


def row(user_id: int | None, *, active: bool = True, profile_id: int = 7) -> dict[str, Any]:
    return {
        "id": profile_id,
        "user_id": user_id,
        "active": active,
        "address": "eva@example.com",
    }


def profile(
    at: float,
    new: Mapping[str, Any],
    old: Mapping[str, Any] | None = None,
    owner: Mapping[str, Any] | None = None,
) -> Change:
    return change("mentorados", new, at=at, old=old, owner=owner)


def event(
    at: float,
    action: str | None,
    *,
    user_id: int | None = 1,
    owner_id: int | None = 1,
    request_id: str | None = None,
    entry: str = "admin",
) -> Change:
    details = {"event": "admin_action", "entry": entry, "action": action, "user_id": user_id}
    details |= {"mentorado_id": 7, "request_id": request_id}
    return change("audit_events", details, at=at, owner={"user_id": owner_id})


EVA_WITH_PROFILE = [user(10.0), profile(20.0, row(1), owner=VERIFIED_OWNER)]
BLOCKED_AT_90 = [*EVA_WITH_PROFILE, user(90.0, blocked=True)]


def test_run_without_faults_breaks_no_rule() -> None:
    assert rules_broken(answers=[OK, REFUSED], changes=EVA_WITH_PROFILE) == []


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        (replace(REFUSED, status=500, code="internal"), "answered with an error of ours"),
        (replace(REFUSED, code=None), "refused without a code"),
        (replace(OK, ended=102.6), "answered later than 2.5 s"),
        (
            replace(OK, status=0, shown=Shown()),
            "connection broken without a killed process",
        ),
        (replace(OK, shown=Shown(PROFILE, ANA)), "shown another user's data"),
        (
            replace(OK, shown=Shown(PROFILE, owner_id=2, mentorado_id=7)),
            "shown another user's data",
        ),
    ],
)
def test_response_that_breaks_a_rule_is_found(answer: Answer, rule: str) -> None:
    assert rules_broken(answers=[answer], changes=[*EVA_WITH_PROFILE, user(5.0, 2, ANA)]) == [rule]


def test_killed_worker_of_the_same_host_excuses_a_broken_connection() -> None:
    lost = replace(OK, status=0, shown=Shown())

    killed = [Interval(host, 99.9, 100.1) for host in ("first", "second")]
    rules = [rules_broken(answers=[lost], killed_workers=[kill]) for kill in killed]

    assert rules == [[], ["connection broken without a killed process"]]


@pytest.mark.parametrize(("back_at", "is_excused"), [(99.0, True), (97.9, False)])
def test_unavailability_is_noted_two_seconds_after_an_outage(
    back_at: float, *, is_excused: bool
) -> None:
    refused = replace(REFUSED, status=503, code="provisioning_unavailable")
    outage = Interval("crash", 90.0, back_at)

    broken_rules = notes(Record(answers=[refused], database_trouble=[outage]))

    assert (broken_rules == []) == is_excused


def test_created_is_returned_once_for_a_profile() -> None:
    created = replace(OK, status=201, shown=replace(OK.shown, is_created=True))
    another = replace(created, shown=replace(created.shown, mentorado_id=8))
    changes = [*EVA_WITH_PROFILE, profile(99.0, row(1, profile_id=8), owner=VERIFIED_OWNER)]

    assert rules_broken(answers=[created, another], changes=changes) == []
    assert rules_broken(answers=[created, created], changes=changes) == [
        "a creation reported twice"
    ]


@pytest.mark.parametrize(
    ("owner", "previous_owner", "is_found"),
    [
        ({}, None, False),
        ({"address": "b@example.com"}, None, True),
        ({"verified": False}, None, True),
        ({}, 2, True),
    ],
    ids=["verified", "another address", "not verified", "owned by another user"],
)
def test_link_needs_a_verified_address_at_that_time(
    owner: dict[str, Any], previous_owner: int | None, *, is_found: bool
) -> None:
    linked = profile(20.0, row(1), old=row(previous_owner), owner={**VERIFIED_OWNER, **owner})

    broken_rules = rules_broken(changes=[user(10.0), linked])

    assert ("linked without proof of the address" in broken_rules) == is_found


def test_admin_may_link_any_address() -> None:
    unproven = {**VERIFIED_OWNER, "verified": False}
    linked = replace(profile(20.0, row(1), old=row(None), owner=unproven), transaction=3)
    audit_event = replace(event(20.0, "link"), transaction=3)

    assert rules_broken(changes=[user(10.0), linked, audit_event]) == []


@pytest.mark.parametrize(
    ("owner", "action", "is_found"),
    [
        ({"blocked": True}, None, True),
        ({"deleted": True}, None, True),
        ({"blocked": True}, "link", False),
        ({"deleted": True}, "link", True),
    ],
)
def test_denied_users_get_no_profile(
    owner: dict[str, Any], action: str | None, *, is_found: bool
) -> None:
    created = replace(profile(20.0, row(1), owner={**VERIFIED_OWNER, **owner}), transaction=3)
    audit_event = replace(event(20.0, action), transaction=3)

    broken_rules = rules_broken(changes=[user(10.0), created, audit_event])

    assert broken_rules == (["profile given to a denied user"] if is_found else [])


def test_two_unlinked_profiles_with_one_address_are_found() -> None:
    first, second = profile(10.0, row(None)), profile(30.0, row(None, profile_id=8))
    owned = profile(20.0, row(1), old=row(None), owner=VERIFIED_OWNER)
    unlinked = profile(40.0, row(None), old=row(1))

    assert rules_broken(changes=[first, second]) == ["address registered twice"]
    assert rules_broken(changes=[first, owned, second, unlinked]) == []


def test_changed_address_of_an_unlinked_profile_counts_as_registered() -> None:
    other = {**row(None, profile_id=8), "address": "b@example.com"}
    moved = profile(30.0, row(None, profile_id=8), old=other)

    assert rules_broken(changes=[profile(10.0, row(None)), profile(20.0, other), moved]) == [
        "address registered twice"
    ]


@pytest.mark.parametrize("action", ["edit", "delete"])
def test_change_of_an_owned_profile_has_its_owner(action: str) -> None:
    assert rules_broken(changes=[event(20.0, action)]) == []
    assert rules_broken(changes=[event(20.0, action, user_id=None)]) == [
        "admin's change missed the owner"
    ]


@pytest.mark.parametrize(
    ("owner", "is_found"), [({"clerk_id": EVA}, False), ({"clerk_id": ANA}, True), ({}, False)]
)
def test_month_written_into_another_users_profile_is_found(
    owner: dict[str, str], *, is_found: bool
) -> None:
    month = change("metricas_mensais", {"note": EVA}, owner=owner)

    broken_rules = rules_broken(changes=[month])

    assert broken_rules == (["month written into another user's profile"] if is_found else [])


def test_month_moved_by_a_merge_breaks_no_rule() -> None:
    moved = change("metricas_mensais", {"note": EVA}, old={"note": EVA}, owner={"clerk_id": ANA})

    assert rules_broken(changes=[moved]) == []


@pytest.mark.parametrize(
    "denial",
    [
        [user(90.0, blocked=True)],
        [user(90.0, deleted=True)],
        [profile(90.0, row(1, active=False), old=row(1), owner=VERIFIED_OWNER)],
    ],
    ids=["blocked", "deleted", "inactive"],
)
def test_user_is_served_for_at_most_five_seconds_after_a_denial(denial: list[Change]) -> None:
    in_time = replace(OK, started=94.0, ended=94.2)

    assert rules_broken(answers=[in_time], changes=[*EVA_WITH_PROFILE, *denial]) == []
    assert rules_broken(answers=[OK], changes=[*EVA_WITH_PROFILE, *denial]) == [
        "served more than 5 s after a denial"
    ]


def test_admin_is_served_for_at_most_five_seconds_after_demotion() -> None:
    roles = [user(10.0, is_admin=True), user(90.0)]
    answer = replace(OK, shown=Shown(ADMINISTRATION))

    assert rules_broken(answers=[answer], changes=roles) == ["served more than 5 s after a denial"]
    assert rules_broken(answers=[answer], changes=roles[:1]) == []


def test_admin_is_served_for_at_most_five_seconds_after_a_block() -> None:
    roles = [user(10.0, is_admin=True), user(90.0, is_admin=True, blocked=True)]
    answer = replace(OK, shown=Shown(ADMINISTRATION))

    assert rules_broken(answers=[answer], changes=roles) == ["served more than 5 s after a denial"]


def test_user_who_was_allowed_again_may_be_served() -> None:
    changes = [*BLOCKED_AT_90, user(100.1)]

    assert rules_broken(answers=[OK], changes=changes) == []


ACKNOWLEDGED = replace(
    REFUSED, request_id="r0", clerk_id="admin", started=97.9, ended=98.1, status=200, code=None
)
BLOCKED_AT_98 = [
    *EVA_WITH_PROFILE,
    replace(user(98.0, blocked=True), transaction=5),
    replace(event(98.0, "block", request_id="r0"), transaction=5),
]


def test_acknowledged_denial_is_effective_at_the_next_request() -> None:
    assert rules_broken(answers=[ACKNOWLEDGED, OK], changes=BLOCKED_AT_98) == [
        "served after an acknowledged denial with Redis well"
    ]


@pytest.mark.parametrize(
    "answers",
    [[OK], [replace(ACKNOWLEDGED, status=0), OK], [ACKNOWLEDGED, replace(OK, started=98.05)]],
    ids=["never answered", "answer lost", "asked before the answer"],
)
def test_denial_that_was_not_acknowledged_has_five_seconds(answers: list[Answer]) -> None:
    broken_rules = rules_broken(answers=answers, changes=BLOCKED_AT_98)

    assert "served after an acknowledged denial with Redis well" not in broken_rules


@pytest.mark.parametrize(("ended", "is_excused"), [(99.0, True), (97.0, True), (94.0, False)])
def test_redis_outage_excuses_for_a_limited_time(ended: float, *, is_excused: bool) -> None:
    outage = [Interval("killed", 93.0, ended)]

    broken_rules = rules_broken(
        answers=[ACKNOWLEDGED, OK], changes=BLOCKED_AT_98, redis_trouble=outage
    )

    assert (broken_rules == []) == is_excused


@pytest.mark.parametrize(("exit_code", "is_found"), [(0, True), (1, False)])
def test_command_with_exit_code_zero_acknowledges_a_denial(
    exit_code: int, *, is_found: bool
) -> None:
    revoked = [
        user(10.0, is_admin=True),
        replace(user(98.0), transaction=5),
        replace(event(98.0, "revoke", entry="cli"), transaction=5),
    ]
    command = Command("admin revoke", 97.0, 99.0, exit_code)
    answer = replace(OK, shown=Shown(ADMINISTRATION))

    broken_rules = rules_broken(answers=[answer], changes=revoked, commands=[command])

    assert broken_rules == (
        ["served after an acknowledged denial with Redis well"] if is_found else []
    )


def test_unlinked_profile_is_shown_for_at_most_five_seconds() -> None:
    def unlinked(at: float) -> list[Change]:
        new = row(1, profile_id=8)
        return [
            *EVA_WITH_PROFILE,
            profile(at, row(None), old=row(1)),
            profile(at + 1, new, owner=VERIFIED_OWNER),
        ]

    assert rules_broken(answers=[OK], changes=unlinked(97.0)) == []
    assert rules_broken(answers=[OK], changes=unlinked(90.0)) == [
        "shown a profile more than 5 s after it was taken away"
    ]


def test_command_that_prints_a_traceback_is_found() -> None:
    refused = Command("sweep", 1.0, 2.0, 1, "Error: a sweep is running")
    broken = replace(refused, output="Traceback (most recent call last):\nValueError")

    assert rules_broken(commands=[refused]) == []
    assert rules_broken(commands=[broken]) == ["command ended with a traceback"]


@pytest.mark.parametrize(
    ("seconds", "last", "is_found"), [(400, 105, False), (400, 120, True), (200, 120, False)]
)
def test_memory_growth_is_judged_after_a_warm_up(
    seconds: int, last: float, *, is_found: bool
) -> None:
    samples = [
        Memory("second", at, 60 if at < 0.2 * seconds else 100 if at < 0.7 * seconds else last)
        for at in range(0, seconds + 1, 10)
    ]

    assert rules_broken(memory=samples) == (["memory grew"] if is_found else [])


def test_time_limits_are_ignored_on_a_busy_machine() -> None:
    late = replace(OK, ended=102.6)

    assert judge(Record(answers=[late], changes=EVA_WITH_PROFILE), is_timed=False) == []


def test_leftover_rows_are_violations() -> None:
    assert rules_broken(leftovers={"user without a profile": ["user_eva"], "other": []}) == [
        "user without a profile"
    ]
