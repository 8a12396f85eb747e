"""Errors reach a Sentry server as redacted as they are in the log."""

import gzip
import http.server
import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import brotli
import pytest
import structlog
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError

from benchmarks.servers import eventually
from core.config import Config
from core.logging import configure_logs
from core.sentry import build_error_reporter
from web.startup import start_logging

ADDRESS = "bia.nunes@example.com"
UNPACK = {"gzip": gzip.decompress, "br": brotli.decompress}
KEY = "sk_live_abcdef123456"


@dataclass
class Receiver:
    """A server that receives events; `bodies` are their whole texts."""

    dsn: str
    bodies: list[str]

    def event(self) -> dict[str, Any]:
        """Wait for the first event and return it."""
        assert eventually(lambda: bool(self.bodies))
        _, _, payload = self.bodies[0].splitlines()[:3]
        event: dict[str, Any] = json.loads(payload)
        return event


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A Sentry server on the loopback address."""
    bodies: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            unpack = UNPACK[self.headers["Content-Encoding"]]
            bodies.append(unpack(body).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield Receiver(f"http://key@127.0.0.1:{server.server_port}/1", bodies)
        server.shutdown()
        thread.join()


@pytest.fixture
def logs(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """The log of a program that reports to the receiver."""
    stream, root = io.StringIO(), logging.getLogger()
    before, configuration = root.handlers[:], structlog.get_config()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logs(
        "json", is_production=True, report=build_error_reporter(receiver.dsn, "production")
    )
    yield stream
    root.handlers = before
    logging.captureWarnings(capture=False)
    structlog.configure(**configuration)


def fail(message: str) -> None:
    secret_in_a_local_variable = KEY
    raise ValueError(f"{message} {len(secret_in_a_local_variable)}")


def test_error_reaches_sentry_with_its_place_and_request(
    logs: io.StringIO, receiver: Receiver
) -> None:
    with pytest.raises(ValueError, match="wrong") as caught:
        fail("wrong")
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        structlog.get_logger("x").error("unexpected_error", exc_info=caught.value, route="/perfil")

    event = receiver.event()
    [error] = event["exception"]["values"]
    assert (event["message"], event["environment"]) == ("unexpected_error", "production")
    assert event["tags"] == {"request_id": "r-1"}
    assert event["extra"]["route"] == "'/perfil'"
    assert (error["type"], error["value"]) == ("ValueError", "wrong 20")
    assert error["stacktrace"]["frames"][-1]["function"] == "fail"


def test_nothing_personal_reaches_sentry(
    logs: io.StringIO, receiver: Receiver, template_url: str
) -> None:
    query = text("INSERT INTO users (id, clerk_id, email) VALUES (1, :id, :email), (1, 'b', 'c')")
    values = {"id": "Bia Nunes", "email": ADDRESS}
    engine = create_engine(template_url)
    with engine.connect() as connection, pytest.raises(IntegrityError) as caught:
        connection.execute(query, values)
    engine.dispose()
    structlog.get_logger("x").error(
        f"failed for {ADDRESS}", exc_info=caught.value, key=KEY, **{ADDRESS: [ADDRESS]}
    )

    event = receiver.event()
    body = receiver.bodies[0]
    assert [private for private in (ADDRESS, KEY, "Bia Nunes") if private in body] == []
    assert event["message"] == "failed for [withheld]"
    assert event["exception"]["values"][0]["value"] == "23505 users users_pkey"


def test_only_what_needs_an_operator_is_sent(logs: io.StringIO, receiver: Receiver) -> None:
    structlog.get_logger("x").warning("handled")
    logging.getLogger("library").error("it %s", "broke")

    assert receiver.event()["message"] == "it broke"
    assert len(receiver.bodies) == 1


def test_missing_package_stops_the_start_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    config = Config.model_validate({"sentry_dsn": "http://key@127.0.0.1:1/1"})

    with pytest.raises(SystemExit, match=r"SENTRY_DSN: needs a package: .*sentry\.lock"):
        start_logging(config)
