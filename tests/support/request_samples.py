"""What a request is made of, who sends it and where to: the sound ones that others spoil."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random

from flask import Flask

from blueprints.admin.changes import CHANGE_TYPES

Headers = tuple[tuple[str, str], ...]

FILLED_IN = re.compile(r"<(?:[^:>]*:)?([^>]+)>")  # a place in a pattern of the URL map, by its name
REAL_IDS = ("1", "2", "3", "4", "5")
STRANGE_IDS = (
    "0",
    "2147483647",
    "2147483648",
    "9" * 40,
    "-1",
    "1e3",
    "%31",
    "me",
    "%D9%A1",
    "1%00",
)
IDS = (*REAL_IDS * 4, *STRANGE_IDS)  # so that most find something
JOBS = (
    "6f1d2c3e-0000-4000-8000-000000000001",
    "6F1D2C3E-0000-4000-8000-000000000001",
    *STRANGE_IDS,
)
YEARS = (
    "2026",
    "2025",
    "2026",
    "2025",
    "2026",
    "2000",
    "0",
    "9999",
    "10000",
    "-1",
    "%32026",
    "%D9%A1",
)
MONTHS = ("1", "2", "3", "01", "12", "0", "13", "99", "100")
WORDS = (
    *("app.css", "../../etc/passwd", "..%2f..%2fconfig.py", "%00", "%ff%fe", "a" * 300, "pessoa"),
    *("sess_1", "user_local_alice", "con", "%2e%2e", "%C3%A9", "%0d%0aX-Evil:1", "{{7*7}}", "."),
    *(key for _, key in CHANGE_TYPES),
)
WRITING = {"POST", "PUT", "PATCH"}
DESKS = ("/admin", "/api/admin")
IMPLIED = {"HEAD", "OPTIONS"}
SOUND: Headers = (("Host", "127.0.0.1"), ("Connection", "close"))


@dataclass(frozen=True, slots=True)
class Ask:
    """A request. Its texts have one character for each byte; its body's length is told."""

    method: str
    target: str
    headers: Headers
    body: bytes = b""

    def sending(self, body: bytes, content_type: str) -> "Ask":
        """The same with a body of that type, by a method that has one."""
        method = self.method if self.method in WRITING else "POST"
        return replace(self.having(("Content-Type", content_type)), method=method, body=body)

    def having(self, *headers: tuple[str, str]) -> "Ask":
        """The same with further headers."""
        return replace(self, headers=(*self.headers, *headers))

    def asking(self, query: str) -> "Ask":
        """The same with that query."""
        return replace(self, target=f"{self.target}?{query}")

    def all_headers(self) -> Headers:
        """Its headers, with the length of its body."""
        length = (("Content-Length", str(len(self.body))),) if self.body else ()
        return (*self.headers, *length)

    def wire(self) -> bytes:
        """How it looks on the wire."""
        lines = [f"{self.method} {self.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.all_headers()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


@dataclass(frozen=True, slots=True)
class Route:
    """A pattern of the URL map, as texts and names in turn, and its methods."""

    parts: tuple[str, ...]
    methods: tuple[str, ...]

    def path(self, dice: Random) -> str:
        """One of its addresses, or nearly one."""
        names = enumerate(self.parts)
        return "".join(dice.choice(_values(name)) if i % 2 else name for i, name in names)


@dataclass(frozen=True, slots=True)
class Guests:
    """Who sends requests, by the headers that show it: those who may do anything, and others."""

    admins: Sequence[Headers]
    others: Sequence[Headers]


def routes_of(app: Flask) -> list[Route]:
    """Every route, in an order that does not change between runs."""
    rules = sorted((rule.rule, sorted(rule.methods or ())) for rule in app.url_map.iter_rules())
    return [
        Route(tuple(FILLED_IN.split(rule)), tuple(m for m in methods if m not in IMPLIED))
        for rule, methods in rules
    ]


def sound_ask(dice: Random, routes: Sequence[Route], guests: Guests) -> Ask:
    """Somebody's request to one of the routes, with nothing wrong in it but perhaps its ids."""
    route = dice.choice(routes)
    is_desk = route.parts[0].startswith(DESKS)
    headers = dice.choice(guests.admins if is_desk and dice.random() < 0.7 else guests.others)
    return Ask(dice.choice(route.methods), route.path(dice), (*SOUND, *headers))


def writing(routes: Iterable[Route]) -> list[Route]:
    """Those of them that read a body."""
    return [route for route in routes if WRITING.intersection(route.methods)]


def _values(name: str) -> tuple[str, ...]:
    numbers = {"ano": YEARS, "mes": MONTHS, "clerk_id": WORDS, "session_id": WORDS, "job_id": JOBS}
    return numbers.get(name, IDS if name.endswith("_id") else WORDS)
