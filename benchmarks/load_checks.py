"""The visitors of a load test, the answers they got, and checks of both, without Locust."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PROBLEM_DOCUMENT = "application/problem+json"
CODE_IN_A_DOCUMENT = re.compile(r'"code": ?"(\w+)"')
CODE_ON_A_PAGE = re.compile(r'data-code="(\w+)"')
TOLERABLE = ("waiting", "lost")  # a 503 with code and Retry-After; a broken connection


@dataclass(slots=True)
class Visitor:
    """A user of the load test, and the ids of all profiles in the answers to this user."""

    first_name: str
    headers: dict[str, str]
    profiles: set[int] = field(default_factory=set)
    had_forgiven_failure: bool = False

    def add_profile(self, mentorado: Mapping[str, Any] | None) -> None:
        """Record the profile of an answer, if it has one."""
        if mentorado:
            self.profiles.add(mentorado["id"])


@dataclass(slots=True)
class LoadState:
    """The visitors and problems of a run, and which kinds of TOLERABLE failures do not count."""

    visitors: list[Visitor] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    tolerated: frozenset[str | None] = frozenset()


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; the status is 0 if the connection broke."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def is_good(self) -> bool:
        """Whether the request succeeded; errors and redirects do not count as success."""
        return self.status in (200, 201)

    @property
    def document(self) -> Any:
        """Return the parsed JSON."""
        return json.loads(self.text)

    @property
    def code(self) -> str | None:
        """Return the error code of a problem document or an error page, or None."""
        is_document = self.headers.get("Content-Type", "").startswith(PROBLEM_DOCUMENT)
        found = (CODE_IN_A_DOCUMENT if is_document else CODE_ON_A_PAGE).search(self.text)
        return found[1] if found else None

    @property
    def kind(self) -> str | None:
        """Return the kind of TOLERABLE failure, or None."""
        if self.status == 0:
            return "lost"
        is_waiting = self.status == 503 and self.code is not None and self.pause_seconds > 0
        return "waiting" if is_waiting else None

    @property
    def pause_seconds(self) -> int:
        """Return the seconds of the header Retry-After; 0 without it."""
        value = self.headers.get("Retry-After", "")
        return int(value) if value.isdecimal() else 0

    @property
    def fault(self) -> str:
        """Describe a failure by its status and code."""
        if self.status == 0:
            return "the connection broke"
        return f"{self.status} {self.code or 'without a code that could be read'}"


def check_stampede(visitor: Visitor, answers: Sequence[Mapping[str, Any] | None]) -> list[str]:
    """Check the answers to simultaneous first requests of one user; returns the problems.

    Exactly one answer has `created` true. If a failure was tolerated, that answer may be the lost
    one; more than one is always a problem.
    """
    created = sum(answer["created"] for answer in answers if answer)
    if created == 1 or (created == 0 and visitor.had_forgiven_failure):
        return []
    return [f"{created} of {len(answers)} devices received created:true"]


def check_profiles(visitors: Sequence[Visitor], statuses: Sequence[str]) -> list[str]:
    """Check the profiles and the final status of each visitor; returns the problems."""
    faults = [
        f"{visitor.first_name}: {status}, {visitor.profiles}"
        for visitor, status in zip(visitors, statuses, strict=True)
        if status != "ready" or len(visitor.profiles) != 1
    ]
    shown = [profile for visitor in visitors for profile in visitor.profiles]
    if len(shown) != len(set(shown)):
        faults.append("one profile was shown to two people")
    return faults


def check_login_times(p95: Mapping[str, float], slowest: float) -> list[str]:
    """Return the kinds of first login whose 95th percentile exceeds `slowest` milliseconds."""
    if not p95:
        return ["no user signed in for the first time"]
    return [
        f"p95 of {name}: {milliseconds:.0f} ms, more than {slowest:.0f}"
        for name, milliseconds in p95.items()
        if milliseconds > slowest
    ]
