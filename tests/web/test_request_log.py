"""In development, the console shows one line for each request."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from structlog.testing import capture_logs

from tests.support.apps import create_app_on


@pytest.fixture
def console_app(tmp_path: Path, template_url: str) -> Iterator[Flask]:
    """An app whose log is for people."""
    with create_app_on(tmp_path, template_url, log_format="console") as app:
        yield app


def test_each_request_is_one_line(console_app: Flask) -> None:
    with capture_logs() as logs:
        console_app.test_client().get("/healthz?token=hush")
        console_app.test_client().get("/nowhere%1b[2J")

    lines = [re.sub(r"\d+ ms", "N ms", line["event"]) for line in logs]
    assert lines == ["GET /healthz 200 N ms", "GET /nowhere%1B%5B2J 404 N ms"]


def test_json_log_has_no_line_for_a_request(client: object, app: Flask) -> None:
    with capture_logs() as logs:
        app.test_client().get("/healthz")

    assert logs == []
