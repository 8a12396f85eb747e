"""Static files: small on the way, kept for long, and never an old one under a new address."""

import re
from pathlib import Path

import pytest
from flask import Flask, url_for
from flask.testing import FlaskClient

from tests.support.types import Browser
from tests.support.users import BOB
from web.static_files import register_assets

SMALL = {"Accept-Encoding": "gzip, deflate, br, zstd"}  # as browsers say
FIRST_PAGE_BYTES = 150_000
PART = re.compile(r'(?:src|href)="(/[^"]*\?v=[0-9a-f]{12})"')


def parts_of(client: FlaskClient, path: str) -> list[str]:
    return PART.findall(client.get(path).get_data(as_text=True))


def headers_of(client: FlaskClient, path: str, **asked: str) -> dict[str, str]:
    with client.get(path, headers=asked) as answer:
        return dict(answer.headers)


def size_of(client: FlaskClient, path: str) -> int:
    with client.get(path, headers=SMALL) as answer:
        return len(answer.data)


def test_first_page_with_all_its_parts_is_small(browser_of: Browser) -> None:
    browser = browser_of(BOB)
    paths = ["/dashboard", *parts_of(browser, "/dashboard")]

    sizes = [size_of(browser, path) for path in paths]

    assert len(paths) == 4
    assert sum(sizes) < FIRST_PAGE_BYTES


@pytest.mark.parametrize(
    ("accepted", "used"),
    [("gzip, deflate", {"gzip", "deflate"}), ("gzip, deflate, br, zstd", {"br", "zstd"})],
)
def test_pages_and_styles_are_compressed(
    browser_of: Browser, accepted: str, used: set[str]
) -> None:
    browser = browser_of(BOB)
    [_, *styles] = parts_of(browser, "/dashboard")

    told = [
        headers_of(browser, p, **{"Accept-Encoding": accepted}) for p in ("/dashboard", *styles)
    ]

    assert {headers["Content-Encoding"] for headers in told} <= used


def test_scripts_are_compressed(client: FlaskClient) -> None:
    told = headers_of(client, "/static/js/preparing.js", **SMALL)

    assert told["Content-Encoding"] in {"br", "zstd"}


def test_version_is_that_of_the_content_and_not_of_the_name(tmp_path: Path) -> None:
    app = Flask(__name__, static_folder=str(tmp_path), static_url_path="/static")
    register_assets(app)
    for name, content in (("a.css", "old"), ("b.css", "old"), ("c.css", "new")):
        (tmp_path / name).write_text(content)

    with app.test_request_context():
        a, b, c = (url_for("static", filename=f"{name}.css")[-12:] for name in "abc")

    assert a == b != c


def test_file_that_is_not_there_has_no_version(app: Flask) -> None:
    with app.test_request_context():
        assert url_for("static", filename="nada.css") == "/static/nada.css"


def test_address_with_a_version_is_kept_for_a_year(client: FlaskClient) -> None:
    [_, style, *_] = parts_of(client, "/local-clerk/sign-in")

    kept = headers_of(client, style)["Cache-Control"]

    assert kept == "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    "path",
    [
        *("/static/theme.css", "/static/theme.css?w=1", "/static/nada.css?v=1"),
        *("/nada?v=1", "/local-clerk/sign-in?v=1"),
    ],
)
def test_nothing_else_is_kept_without_asking(client: FlaskClient, path: str) -> None:
    assert "immutable" not in headers_of(client, path).get("Cache-Control", "")


def test_address_of_another_version_is_not_kept(client: FlaskClient) -> None:
    kept = headers_of(client, "/static/theme.css?v=000000000000")["Cache-Control"]

    assert kept == "no-cache"


def test_unchanged_file_stays_kept_for_a_year(client: FlaskClient) -> None:
    [_, style, *_] = parts_of(client, "/local-clerk/sign-in")
    tag = headers_of(client, style)["ETag"]

    again = headers_of(client, style, **{"If-None-Match": tag})

    assert again["Cache-Control"] == "public, max-age=31536000, immutable"


def test_unchanged_file_is_not_sent_twice(client: FlaskClient) -> None:
    tag = headers_of(client, "/static/theme.css", **SMALL)["ETag"]

    with client.get("/static/theme.css", headers={**SMALL, "If-None-Match": tag}) as again:
        assert (again.status_code, again.data) == (304, b"")


def test_what_lies_beside_the_static_folder_is_not_served(client: FlaskClient) -> None:
    assert client.get("/static/..%2fapp.py?v=1").status_code == 404
