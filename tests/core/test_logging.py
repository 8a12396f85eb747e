"""Every log line is one JSON object, from any logger, without secrets, addresses or names."""

import io
import json
import logging
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest
import structlog
from pydantic import BaseModel, ValidationError
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError

from core.logging import configure_logs, redact

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ1c2VyXzEifQ.c2lnbmF0dXJl"
NAME = "Eva Luz"

LogLines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """The replaced standard error; afterwards the logging configuration is restored."""
    stream, root = io.StringIO(), logging.getLogger()
    before, configuration = root.handlers[:], structlog.get_config()
    monkeypatch.setattr(sys, "stderr", stream)
    yield stream
    root.handlers = before
    logging.captureWarnings(capture=False)
    structlog.configure(**configuration)


@pytest.fixture
def log_lines(stream: io.StringIO) -> LogLines:
    """Return the lines logged so far, parsed from JSON."""
    configure_logs("json", is_production=True)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_event_is_a_json_object_with_its_fields(log_lines: LogLines) -> None:
    structlog.get_logger("x").info("cache_hit", user_id=7)

    [line] = log_lines()
    assert (line["event"], line["level"], line["user_id"]) == ("cache_hit", "info", 7)
    assert line["timestamp"].endswith("Z")


def test_fields_have_a_fixed_order(log_lines: LogLines) -> None:
    with structlog.contextvars.bound_contextvars(
        sweep="nightly", clerk_id="user_1", request_id="r1"
    ):
        structlog.get_logger("x").info("mentorado_created", user_id=7)

    [line] = log_lines()
    assert list(line)[:5] == ["timestamp", "level", "event", "request_id", "clerk_id"]


def test_log_lines_of_libraries_are_json(log_lines: LogLines) -> None:
    logging.getLogger("library").warning("it is %s", "late")

    [line] = log_lines()
    assert (line["event"], line["level"]) == ("it is late", "warning")


def test_warnings_are_json(log_lines: LogLines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn("deprecated", stacklevel=1)

    [line] = log_lines()
    assert "deprecated" in line["event"]


def test_request_id_is_on_every_line(log_lines: LogLines) -> None:
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        structlog.get_logger("x").info("app")
        logging.getLogger("library").warning("library")

    assert [line["request_id"] for line in log_lines()] == ["r-1", "r-1"]


@pytest.fixture
def console(stream: io.StringIO) -> io.StringIO:
    """The output of the console log format."""
    configure_logs("console", is_production=False)
    return stream


def test_console_is_readable(console: io.StringIO) -> None:
    structlog.get_logger("x").warning("sweep_batch_split", last_id=9)

    assert re.match(r"\S*\d\d:\d\d:\d\d\S* \[.*warning.*sweep_batch_split", console.getvalue())
    assert "pid" not in console.getvalue()


def test_console_shows_local_time(console: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Etc/GMT-14")
    time.tzset()
    try:
        structlog.get_logger("x").warning("late")
        expected = datetime.now(UTC) + timedelta(hours=14)
    finally:
        monkeypatch.undo()
        time.tzset()

    assert f"{expected:%H:%M}" in console.getvalue()


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ('{"error": "bob@example.com is taken"}', "bob@example.com"),
        ('{"error": "Bob <bob.lima+1@mail.example.com>"}', "bob.lima"),
        (f'{{"header": "Bearer {TOKEN}"}}', "eyJ"),
        ('{"key": "sk_live_abcdef123456"}', "sk_live"),
        ('{"key": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2"}', "whsec"),
        ('{"error": "postgresql://bia:pw123@db/neon"}', "pw123"),
    ],
)
def test_secret_is_redacted_and_the_line_stays_json(line: str, secret: str) -> None:
    redacted = redact(line)

    assert secret not in redacted
    assert "[withheld]" in json.dumps(json.loads(redacted))


def test_line_without_secrets_is_unchanged() -> None:
    line = '{"event": "sweep_started", "owner": "host:1:abc", "at": "12:00"}'

    assert redact(line) == line


def raise_error(error: Exception, cause: Exception | None = None) -> None:
    raise error from cause


def test_exception_is_logged_with_place_and_message(log_lines: LogLines) -> None:
    with pytest.raises(KeyError) as caught:
        raise_error(KeyError("turma"))

    structlog.get_logger("x").error("unexpected_error", exc_info=caught.value)

    [line] = log_lines()
    assert line["exception"].startswith("builtins.KeyError: 'turma'\n")
    assert "in raise_error" in line["exception"]


def test_exception_of_a_library_is_logged_with_its_cause(log_lines: LogLines) -> None:
    try:
        raise_error(RuntimeError("it failed"), OSError("disk"))
    except RuntimeError:
        logging.getLogger("library").exception("it broke")

    [line] = log_lines()
    assert line["exception"].index("RuntimeError: it failed") < line["exception"].index("OSError")


def test_row_in_a_database_error_is_not_logged(log_lines: LogLines, template_url: str) -> None:
    engine = create_engine(template_url)
    row = "INSERT INTO mentorados (email, nome_completo, turma) VALUES (:name, NULL, 'neon')"
    with engine.connect() as connection, pytest.raises(IntegrityError) as caught:
        connection.execute(text(row), {"name": NAME})
    engine.dispose()

    structlog.get_logger("x").error("unexpected_error", exc_info=caught.value)

    [line] = log_lines()
    assert NAME in str(caught.value)
    assert NAME not in line["exception"]
    assert "23502 mentorados nome_completo" in line["exception"]


def test_message_of_a_lost_connection_is_logged(log_lines: LogLines) -> None:
    error = psycopg2.OperationalError("server closed the connection unexpectedly")

    structlog.get_logger("x").error("unexpected_error", exc_info=error)

    [line] = log_lines()
    assert "server closed the connection" in line["exception"]


def test_value_in_a_validation_error_is_not_logged(log_lines: LogLines) -> None:
    class Form(BaseModel):
        age: int

    with pytest.raises(ValidationError) as caught:
        Form.model_validate({"age": NAME})

    structlog.get_logger("x").error("unexpected_error", exc_info=caught.value)

    [line] = log_lines()
    assert NAME not in line["exception"]
    assert "age: int_parsing" in line["exception"]


@pytest.mark.parametrize("library", ["httpx", "httpcore.http11"])
def test_urls_of_calls_to_clerk_are_not_logged(log_lines: LogLines, library: str) -> None:
    logging.getLogger(library).info("HTTP Request: GET /v1/clients/handshake_payload?nonce=n1")

    assert log_lines() == []
