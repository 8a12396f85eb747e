"""One JSON object a line, whoever speaks, and never a secret, an address or a name in it."""

import io
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
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

Said = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What would go to standard error; afterwards everything speaks as before."""
    stream, root = io.StringIO(), logging.getLogger()
    before, configuration = root.handlers[:], structlog.get_config()
    monkeypatch.setattr(sys, "stderr", stream)
    yield stream
    root.handlers = before
    logging.captureWarnings(capture=False)
    structlog.configure(**configuration)


@pytest.fixture
def said(stream: io.StringIO) -> Said:
    """The lines said so far, in JSON."""
    configure_logs("json", is_production=True)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_event_is_a_json_object_with_its_facts(said: Said) -> None:
    structlog.get_logger("x").info("cache_hit", user_id=7)

    [line] = said()
    assert (line["event"], line["level"], line["user_id"]) == ("cache_hit", "info", 7)
    assert line["timestamp"].endswith("Z")


def test_facts_come_in_the_order_in_which_readers_ask(said: Said) -> None:
    with structlog.contextvars.bound_contextvars(
        sweep="nightly", clerk_id="user_1", request_id="r1"
    ):
        structlog.get_logger("x").info("mentorado_created", user_id=7)

    [line] = said()
    assert list(line)[:5] == ["timestamp", "level", "event", "request_id", "clerk_id"]


def test_libraries_speak_json_as_well(said: Said) -> None:
    logging.getLogger("somebody").warning("it is %s", "late")

    [line] = said()
    assert (line["event"], line["level"]) == ("it is late", "warning")


def test_warnings_speak_json_as_well(said: Said) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn("soon gone", stacklevel=1)

    [line] = said()
    assert "soon gone" in line["event"]


def test_request_id_is_on_every_line(said: Said) -> None:
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        structlog.get_logger("x").info("ours")
        logging.getLogger("theirs").warning("theirs")

    assert [line["request_id"] for line in said()] == ["r-1", "r-1"]


@pytest.fixture
def console(stream: io.StringIO) -> io.StringIO:
    """A developer's terminal."""
    configure_logs("console", is_production=False)
    return stream


def test_console_is_readable(console: io.StringIO) -> None:
    structlog.get_logger("x").warning("sweep_batch_split", last_id=9)

    assert "sweep_batch_split" in console.getvalue()
    assert not console.getvalue().startswith("{")


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
def test_secret_is_withheld_and_the_line_stays_json(line: str, secret: str) -> None:
    withheld = redact(line)

    assert secret not in withheld
    assert "[withheld]" in json.dumps(json.loads(withheld))


def test_harmless_line_is_left_alone() -> None:
    line = '{"event": "sweep_started", "owner": "host:1:abc", "at": "12:00"}'

    assert redact(line) == line


def stumble(error: Exception, cause: Exception | None = None) -> None:
    raise error from cause


def test_exception_tells_where_and_what(said: Said) -> None:
    with pytest.raises(KeyError) as caught:
        stumble(KeyError("turma"))

    structlog.get_logger("x").error("unexpected_error", exc_info=caught.value)

    [line] = said()
    assert line["exception"].startswith("builtins.KeyError: 'turma'\n")
    assert "in stumble" in line["exception"]


def test_exception_of_a_library_is_told_with_its_cause(said: Said) -> None:
    try:
        stumble(RuntimeError("it failed"), OSError("disk"))
    except RuntimeError:
        logging.getLogger("theirs").exception("it broke")

    [line] = said()
    assert line["exception"].index("RuntimeError: it failed") < line["exception"].index("OSError")


def test_row_that_the_database_quotes_is_not_told(said: Said, template_url: str) -> None:
    engine = create_engine(template_url)
    row = "INSERT INTO mentorados (email, nome_completo, turma) VALUES (:name, NULL, 'neon')"
    with engine.connect() as connection, pytest.raises(IntegrityError) as caught:
        connection.execute(text(row), {"name": NAME})
    engine.dispose()

    structlog.get_logger("x").error("unexpected_error", exc_info=caught.value)

    [line] = said()
    assert NAME in str(caught.value)
    assert NAME not in line["exception"]
    assert "23502 mentorados nome_completo" in line["exception"]


def test_lost_connection_is_told_in_words(said: Said) -> None:
    error = psycopg2.OperationalError("server closed the connection unexpectedly")

    structlog.get_logger("x").error("unexpected_error", exc_info=error)

    [line] = said()
    assert "server closed the connection" in line["exception"]


def test_value_that_does_not_fit_is_not_told(said: Said) -> None:
    class Form(BaseModel):
        age: int

    with pytest.raises(ValidationError) as caught:
        Form.model_validate({"age": NAME})

    structlog.get_logger("x").error("unexpected_error", exc_info=caught.value)

    [line] = said()
    assert NAME not in line["exception"]
    assert "age: int_parsing" in line["exception"]


@pytest.mark.parametrize("library", ["httpx", "httpcore.http11"])
def test_addresses_of_calls_to_clerk_are_not_logged(said: Said, library: str) -> None:
    logging.getLogger(library).info("HTTP Request: GET /v1/clients/handshake_payload?nonce=n1")

    assert said() == []
