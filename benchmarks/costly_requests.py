"""Measure the processor time of the costliest requests; none may take more than 50 ms.

`python -m benchmarks.costly_requests` sends each to an app in this process, on a PostgreSQL of its
own, and prints the best of several runs. The exit code is 1 if one exceeds the bound.
"""

import io
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from blueprints.admin.mentees import MAX_LIST_BYTES
from core.logging import configure_logs
from dev.fake_clerk import ADMIN_EMAIL, DevUser
from scripts.trace_request import serving
from web.problem_responses import MAX_FORM_BYTES
from web.request_hooks import MAX_HEADER_CHARACTERS
from web.services import EXTENSION
from web.spreadsheet import MAX_SMALL_XML

BOUND_MS = 50.0  # docs/reference/contract.md#bounds
RUNS = 5
ADMIN = DevUser("user_admin", "Dona Admin", ADMIN_EMAIL)
MENTEE = DevUser("user_mentee", "Bia Nunes", "bia@example.com")
LIST = "/admin/mentorados/novos"
BODY_BYTES = 64 * 1024
TITLES = b"nome;email\n"
NESTED = b'{"a":' * 10_000
FORM = "application/x-www-form-urlencoded"

Request = Callable[[], dict[str, Any]]  # returns the arguments of a new request


def main() -> int:
    """Measure every request and print the table."""
    configure_logs("json", is_production=True)
    with tempfile.TemporaryDirectory(prefix="costs") as folder, serving(Path(folder)) as app:
        sign = app.extensions[EXTENSION].dev_provider.token
        client = app.test_client(use_cookies=False)
        named_requests = requests(sign(ADMIN), sign(MENTEE))
        costs = {name: measure(client, request) for name, request in named_requests}
    for name, (milliseconds, status) in costs.items():
        print(f"{milliseconds:6.1f} ms  {status}  {name}")
    return int(any(milliseconds > BOUND_MS for milliseconds, _ in costs.values()))


def measure(client: FlaskClient, request: Request) -> tuple[float, int]:
    """Return the least processor time of several runs in milliseconds, and the answer's status."""
    least, status = float("inf"), 0
    for _ in range(RUNS):
        arguments = request()
        before = time.thread_time()
        status = client.open(**arguments).status_code
        least = min(least, time.thread_time() - before)
    return least * 1000, status


def requests(admin: str, mentee: str) -> Iterator[tuple[str, Request]]:
    """Yield every request with its name; `admin` and `mentee` are session tokens."""
    yield from lists(admin)
    yield from forms(admin)
    yield from bodies(mentee)
    yield from headers(mentee)


def lists(token: str) -> Iterator[tuple[str, Request]]:
    """Yield uploads of mentee lists of the largest size."""
    size = MAX_LIST_BYTES - 2_000
    mentee = b"Ana da Silva Moreira;ana.moreira@example.com\n"
    for name, content in (
        ("one letter", b"a" * size),
        ("long lines", (b"a" * 19_000 + b"\n") * (size // 19_001)),
        ("long lines of Latin-1", (b"\xe9" * 19_000 + b"\n") * (size // 19_001)),
        ("twenty thousand mentees", mentee * min(19_990, size // len(mentee))),
        ("line breaks", b"\n" * size),
        ("separators", (b";" * 19_000 + b"\n") * (size // 19_001)),
        ("quotes", (b'"' * 19_000 + b"\n") * (size // 19_001)),
        ("blanks", (b" " * 19_000 + b"\n") * (size // 19_001)),
        ("short lines of Latin-1", b"Jos\xe9\n" * 39_000),
        ("lines in two encodings", b"Jos\xe9;a\nJos\xc3\xa9;a\n" * 19_000),
    ):
        yield f"list of {name}", upload(token, TITLES + content)
    for name, content in spreadsheets():
        yield f"spreadsheet of {name}", upload(token, content)


def spreadsheets() -> Iterator[tuple[str, bytes]]:
    """Yield spreadsheets that cost much to read, as far as a request reads them."""
    cells = "<row>" + '<c t="inlineStr"><is><t>A</t></is></c>' * 7 + "</row>"
    for name, sheet, others in (
        ("the most that is read at once", cells * (MAX_SMALL_XML // len(cells) - 1), 0),
        ("many small elements", "<c/>" * (MAX_SMALL_XML // 4 - 10), 0),
        ("twenty thousand mentees", cells * 20_000, 0),
        ("many files", cells, 10_000),
    ):
        yield name, spreadsheet(sheet, others)


def spreadsheet(sheet: str, others: int) -> bytes:
    """Return a spreadsheet with this sheet, and so many other files in its archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", '<w><sheet id="1"/></w>')
        archive.writestr("xl/_rels/workbook.xml.rels", '<r><Relationship Id="1" Target="s"/></r>')
        archive.writestr("xl/s", f"<worksheet>{sheet}</worksheet>")
        for number in range(others):
            archive.writestr(f"{number}", b"")
    return file.getvalue()


def upload(token: str, content: bytes) -> Request:
    """Build a request with a file."""
    return lambda: {
        "path": LIST,
        "method": "POST",
        "headers": {"Authorization": f"Bearer {token}"},
        "data": {"arquivo": (io.BytesIO(content), "lista.csv")},
        "content_type": "multipart/form-data",
    }


def forms(token: str) -> Iterator[tuple[str, Request]]:
    """Yield forms without files, of the largest size."""
    for name, pattern in (("many fields", b"a=1&"), ("escapes", b"%41"), ("blanks", b"+")):
        data = b"lista=" + pattern * ((MAX_FORM_BYTES - 10) // len(pattern))
        yield f"form of {name}", send("POST", LIST, token, data, FORM)


def bodies(token: str) -> Iterator[tuple[str, Request]]:
    """Yield JSON bodies of the largest size."""
    for name, data in (
        ("deep", NESTED[:BODY_BYTES]),
        ("many keys", b"{" + b",".join(b'"%d":1' % n for n in range(6_000)) + b"}"),
        ("long number", b'{"lucro":' + b"9" * 60_000 + b"}"),
        ("long text", b'{"observacoes":"' + b"\\u0041" * 10_000 + b'"}'),
    ):
        path = "/api/mentorados/me/metricas/2026/3"
        yield f"JSON, {name}", send("PUT", path, token, data, "application/json")


def send(method: str, path: str, token: str, data: bytes, content_type: str) -> Request:
    """Build a request with a body."""
    return lambda: {
        "path": path,
        "method": method,
        "headers": {"Authorization": f"Bearer {token}"},
        "data": data,
        "content_type": content_type,
    }


def headers(token: str) -> Iterator[tuple[str, Request]]:
    """Yield headers as large as a server passes them on, and sums above the limit."""
    half = MAX_HEADER_CHARACTERS // 2
    sessions = "".join(f"__session_{n}={token}; " for n in range(half // (len(token) + 16)))
    for name, environ in (
        ("cookies", {"HTTP_COOKIE": "a=b; " * (half // 5)}),
        ("semicolons", {"HTTP_COOKIE": ";" * half}),
        ("quoted cookies", {"HTTP_COOKIE": 'a="\\\\"; ' * (half // 8)}),
        ("session cookies", {"HTTP_COOKIE": sessions}),
        ("a hundred cookie headers", {"HTTP_COOKIE": "a=b; " * (100 * half // 5)}),
        ("dots of a token", {"HTTP_AUTHORIZATION": "Bearer " + "a." * (half // 2)}),
        ("encodings", {"HTTP_ACCEPT_ENCODING": "a;q=0.1," * (half // 8)}),
        ("labels of a host", {"HTTP_HOST": "a." * (half // 2)}),
    ):
        yield f"headers: {name}", visit(environ)


def visit(environ: dict[str, str]) -> Request:
    """Build a request for the dashboard with these headers."""
    return lambda: {"path": "/dashboard", "environ_overrides": environ}


if __name__ == "__main__":
    sys.exit(main())
