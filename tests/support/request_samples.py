"""Valid requests to random routes, which fuzz tests make malformed."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random

from flask import Flask

from blueprints.admin.change_types import CHANGE_TYPES

Headers = tuple[tuple[str, str], ...]

PARAMETER = re.compile(r"<(?:[^:>]*:)?([^>]+)>")  # a parameter of a URL rule, by its name
EXISTING_IDS = ("1", "2", "3", "4", "5")
INVALID_IDS = (
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
IDS = (*EXISTING_IDS * 4, *INVALID_IDS)  # most of them exist
JOBS = (
    "6f1d2c3e-0000-4000-8000-000000000001",
    "6F1D2C3E-0000-4000-8000-000000000001",
    *INVALID_IDS,
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
# fmt: off
WORDS = (
    "app.css", "../../etc/passwd", "..%2f..%2fconfig.py", "%00", "%ff%fe", "a" * 300, "pessoa",
    "sess_1", "user_local_alice", "con", "%2e%2e", "%C3%A9", "%0d%0aX-Evil:1", "{{7*7}}", ".",
    *(key for _, key in CHANGE_TYPES),
)
# fmt: on
METHODS_WITH_BODY = {"POST", "PUT", "PATCH"}
ADMIN_PATHS = ("/admin", "/api/admin")
IMPLICIT_METHODS = {"HEAD", "OPTIONS"}
BASE_HEADERS: Headers = (("Host", "127.0.0.1"), ("Connection", "close"))


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A request.

    Its texts have one character for each byte; Content-Length follows from the body.
    """

    method: str
    target: str
    headers: Headers
    body: bytes = b""

    def with_body(self, body: bytes, content_type: str) -> "RawRequest":
        """A copy with this body, its content type and a method that has a body."""
        method = self.method if self.method in METHODS_WITH_BODY else "POST"
        return replace(self.with_headers(("Content-Type", content_type)), method=method, body=body)

    def with_headers(self, *headers: tuple[str, str]) -> "RawRequest":
        """A copy with further headers."""
        return replace(self, headers=(*self.headers, *headers))

    def with_query(self, query: str) -> "RawRequest":
        """A copy with this query string."""
        return replace(self, target=f"{self.target}?{query}")

    def headers_with_length(self) -> Headers:
        """The headers, with the length of the body."""
        length = (("Content-Length", str(len(self.body))),) if self.body else ()
        return (*self.headers, *length)

    def to_bytes(self) -> bytes:
        """The bytes of the request."""
        lines = [f"{self.method} {self.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.headers_with_length()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


@dataclass(frozen=True, slots=True)
class Route:
    """A URL rule, as constant texts and parameter names in turn, and its methods."""

    parts: tuple[str, ...]
    methods: tuple[str, ...]

    def path(self, rng: Random) -> str:
        """A path of the route; its parameters may be invalid."""
        names = enumerate(self.parts)
        return "".join(rng.choice(_values(name)) if i % 2 else name for i, name in names)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The headers of the clients: admins, and others."""

    admins: Sequence[Headers]
    others: Sequence[Headers]


def routes_of(app: Flask) -> list[Route]:
    """All routes in a stable order."""
    rules = sorted((rule.rule, sorted(rule.methods or ())) for rule in app.url_map.iter_rules())
    return [
        Route(tuple(PARAMETER.split(rule)), tuple(m for m in methods if m not in IMPLICIT_METHODS))
        for rule, methods in rules
    ]


def valid_request(rng: Random, routes: Sequence[Route], guests: Credentials) -> RawRequest:
    """A valid request to one of the routes; only its ids may be unknown."""
    route = rng.choice(routes)
    is_admin_route = route.parts[0].startswith(ADMIN_PATHS)
    headers = rng.choice(guests.admins if is_admin_route and rng.random() < 0.7 else guests.others)
    return RawRequest(rng.choice(route.methods), route.path(rng), (*BASE_HEADERS, *headers))


def routes_with_body(routes: Iterable[Route]) -> list[Route]:
    """The routes whose methods have a body."""
    return [route for route in routes if METHODS_WITH_BODY.intersection(route.methods)]


def _values(name: str) -> tuple[str, ...]:
    values_of = {
        "ano": YEARS,
        "mes": MONTHS,
        "clerk_id": WORDS,
        "session_id": WORDS,
        "job_id": JOBS,
    }
    return values_of.get(name, IDS if name.endswith("_id") else WORDS)
