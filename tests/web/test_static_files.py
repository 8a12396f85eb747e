"""Static files are compressed, and cached for a year by the version in their URL."""

import json
import re
import struct
from pathlib import Path

import pytest
from flask import Flask, url_for
from flask.testing import FlaskClient

from tests.support.html_page import Page
from tests.support.types import Browser
from tests.support.users import BOB
from web.responses import StaticFiles

BROWSER_ENCODINGS = {"Accept-Encoding": "gzip, deflate, br, zstd"}  # the header of current browsers
FIRST_PAGE_BYTES = 60_000
VERSIONED_URL = re.compile(r'(?:src|href)="(/[^"]*\?v=[0-9a-f]{12})"')


def versioned_urls(client: FlaskClient, path: str) -> list[str]:
    return VERSIONED_URL.findall(client.get(path).get_data(as_text=True))


def headers_of(client: FlaskClient, path: str, **headers: str) -> dict[str, str]:
    with client.get(path, headers=headers) as response:
        return dict(response.headers)


def size_of(client: FlaskClient, path: str) -> int:
    with client.get(path, headers=BROWSER_ENCODINGS) as response:
        return len(response.data)


def test_first_page_with_its_static_files_is_small(browser_of: Browser) -> None:
    browser = browser_of(BOB)
    paths = ["/dashboard", *versioned_urls(browser, "/dashboard")]

    sizes = [size_of(browser, path) for path in paths]

    assert len(paths) == 6
    assert sum(sizes) < FIRST_PAGE_BYTES


@pytest.mark.parametrize(
    ("accepted", "encodings"),
    [("gzip, deflate", {"gzip", "deflate"}), ("gzip, deflate, br, zstd", {"br", "zstd"})],
)
def test_pages_and_styles_are_compressed(
    browser_of: Browser, accepted: str, encodings: set[str]
) -> None:
    browser = browser_of(BOB)
    styles = [path for path in versioned_urls(browser, "/dashboard") if ".css" in path]

    responses = [
        headers_of(browser, p, **{"Accept-Encoding": accepted}) for p in ("/dashboard", *styles)
    ]

    assert {headers["Content-Encoding"] for headers in responses} <= encodings


def test_scripts_are_compressed(client: FlaskClient) -> None:
    headers = headers_of(client, "/static/js/preparing.js", **BROWSER_ENCODINGS)

    assert headers["Content-Encoding"] in {"br", "zstd"}


def test_version_depends_on_the_content_only(tmp_path: Path) -> None:
    app = Flask(__name__, static_folder=str(tmp_path), static_url_path="/static")
    for name, content in (("a.css", "old"), ("b.css", "old"), ("c.css", "new")):
        (tmp_path / name).write_text(content)
    StaticFiles(app)

    with app.test_request_context():
        a, b, c = (url_for("static", filename=f"{name}.css")[-12:] for name in "abc")

    assert a == b != c


def test_missing_file_has_no_version(app: Flask) -> None:
    with app.test_request_context():
        assert url_for("static", filename="nada.css") == "/static/nada.css"


def test_url_with_a_version_is_cached_for_a_year(client: FlaskClient) -> None:
    [_, style, *_] = versioned_urls(client, "/local-clerk/sign-in")

    cache_control = headers_of(client, style)["Cache-Control"]

    assert cache_control == "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    "path",
    [
        "/static/theme.css",
        "/static/theme.css?w=1",
        "/static/nada.css?v=1",
        "/nada?v=1",
        "/local-clerk/sign-in?v=1",
    ],
)
def test_other_urls_are_not_immutable(client: FlaskClient, path: str) -> None:
    assert "immutable" not in headers_of(client, path).get("Cache-Control", "")


def test_url_with_another_version_is_not_cached(client: FlaskClient) -> None:
    cache_control = headers_of(client, "/static/theme.css?v=000000000000")["Cache-Control"]

    assert cache_control == "no-cache"


def test_unchanged_file_stays_cached_for_a_year(client: FlaskClient) -> None:
    [_, style, *_] = versioned_urls(client, "/local-clerk/sign-in")
    tag = headers_of(client, style)["ETag"]

    second = headers_of(client, style, **{"If-None-Match": tag})

    assert second["Cache-Control"] == "public, max-age=31536000, immutable"


def test_unchanged_file_is_not_sent_twice(client: FlaskClient) -> None:
    tag = headers_of(client, "/static/theme.css", **BROWSER_ENCODINGS)["ETag"]

    with client.get(
        "/static/theme.css", headers={**BROWSER_ENCODINGS, "If-None-Match": tag}
    ) as second:
        assert (second.status_code, second.data) == (304, b"")


def test_file_outside_the_static_folder_is_not_served(client: FlaskClient) -> None:
    assert client.get("/static/..%2fapp.py?v=1").status_code == 404


def test_manifest_names_icons_of_its_sizes(client: FlaskClient) -> None:
    with client.get("/static/manifest.webmanifest") as response:
        manifest, content_type = json.loads(response.data), response.mimetype

    assert content_type == "application/manifest+json"
    assert (manifest["start_url"], manifest["display"]) == ("/dashboard", "standalone")
    for icon in manifest["icons"]:
        with client.get(f"/static/{icon['src']}") as image:
            width, height = struct.unpack(">II", image.data[16:24])  # of a PNG
        assert f"{width}x{height}" == icon["sizes"]


@pytest.mark.parametrize(
    ("path", "content_type"),
    [("/favicon.ico", "image/vnd.microsoft.icon"), ("/robots.txt", "text/plain; charset=utf-8")],
)
def test_files_at_the_root_are_found_without_a_session(
    client: FlaskClient, path: str, content_type: str
) -> None:
    headers = headers_of(client, path)

    assert headers["Content-Type"] == content_type
    assert "max-age=86400" in headers["Cache-Control"]


def test_page_has_icons_manifest_description_and_theme_colour(client: FlaskClient) -> None:
    page = Page(client.get("/local-clerk/sign-in").text)

    links = {each.attributes["rel"] for each in page.all("link")}
    names = {each.attributes.get("name") for each in page.all("meta")}
    assert {"icon", "apple-touch-icon", "manifest"} <= links
    assert {"description", "theme-color"} <= names
