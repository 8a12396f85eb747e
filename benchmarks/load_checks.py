"""Who came, what they were told, and what is wrong with that; knows nothing of Locust."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PROBLEM_DOCUMENT = "application/problem+json"
CODE_IN_A_DOCUMENT = re.compile(r'"code": ?"(\w+)"')
CODE_ON_A_PAGE = re.compile(r'data-code="(\w+)"')
FORGIVABLE = ("waiting", "lost")  # a coded «come again later»; a connection that broke


@dataclass(slots=True)
class Visitor:
    """Somebody who signs in for the first time, and every profile they were ever shown."""

    first_name: str
    headers: dict[str, str]
    profiles: set[int] = field(default_factory=set)
    was_put_off: bool = False  # whether an answer to them was forgiven

    def note(self, mentorado: Mapping[str, Any] | None) -> None:
        """Remember which profile they were shown, if any."""
        if mentorado:
            self.profiles.add(mentorado["id"])


@dataclass(slots=True)
class Crowd:
    """Everybody who came, what is wrong so far, and which of the FORGIVABLE is no failure."""

    visitors: list[Visitor] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    forgiven: frozenset[str | None] = frozenset()


@dataclass(frozen=True, slots=True)
class Told:
    """One answer; the status is 0 where none came."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def is_good(self) -> bool:
        """Whether it is what was asked for, which an error and a redirection are not."""
        return self.status in (200, 201)

    @property
    def document(self) -> Any:
        """What it says to a program."""
        return json.loads(self.text)

    @property
    def code(self) -> str | None:
        """The code of a refusal, from its document or from its page."""
        is_document = self.headers.get("Content-Type", "").startswith(PROBLEM_DOCUMENT)
        found = (CODE_IN_A_DOCUMENT if is_document else CODE_ON_A_PAGE).search(self.text)
        return found[1] if found else None

    @property
    def kind(self) -> str | None:
        """Which of the FORGIVABLE it is, if any."""
        if self.status == 0:
            return "lost"
        is_waiting = self.status == 503 and self.code is not None and self.pause_seconds > 0
        return "waiting" if is_waiting else None

    @property
    def pause_seconds(self) -> int:
        """For how long it asks to wait."""
        told = self.headers.get("Retry-After", "")
        return int(told) if told.isdecimal() else 0

    @property
    def fault(self) -> str:
        """How a refusal is called: by its code, or by the lack of one."""
        if self.status == 0:
            return "the connection broke"
        return f"{self.status} {self.code or 'without a code that could be read'}"


def faults_of_a_stampede(
    visitor: Visitor, answers: Sequence[Mapping[str, Any] | None]
) -> list[str]:
    """What is wrong with what one person's devices were told, which came all at once.

    Exactly one is told that it created the profile; that may have been the very answer that was
    forgiven not to come, but it is never told twice.
    """
    created = sum(answer["created"] for answer in answers if answer)
    if created == 1 or (created == 0 and visitor.was_put_off):
        return []
    return [f"{created} of {len(answers)} devices were told created:true"]


def faults_of_profiles(visitors: Sequence[Visitor], statuses: Sequence[str]) -> list[str]:
    """What is wrong with the profiles of these people, whose accounts now say that status."""
    faults = [
        f"{visitor.first_name}: {status}, {visitor.profiles}"
        for visitor, status in zip(visitors, statuses, strict=True)
        if status != "ready" or len(visitor.profiles) != 1
    ]
    shown = [profile for visitor in visitors for profile in visitor.profiles]
    if len(shown) != len(set(shown)):
        faults.append("one profile was shown to two people")
    return faults


def faults_of_pace(p95: Mapping[str, float], slowest: float) -> list[str]:
    """Which first logins took longer, at the 95th percentile, than that many milliseconds."""
    if not p95:
        return ["nobody signed in for the first time"]
    return [
        f"p95 of {name}: {milliseconds:.0f} ms, more than {slowest:.0f}"
        for name, milliseconds in p95.items()
        if milliseconds > slowest
    ]
