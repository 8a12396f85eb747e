"""Send logged errors to Sentry (SENTRY_DSN), redacted as in the log; needs the extra `sentry`.

Sentry's own integrations are off: they would send requests, headers and local variables. What is
sent is a log line with level `error` or above, and the files and lines of its exception.
"""

import atexit
import importlib
import logging
import traceback
from collections.abc import Mapping
from typing import Any

from core.logging import ErrorReporter, error_chain, redact, safe_message

log = logging.getLogger(__name__)

CLOSING_SECONDS = 2.0  # for what has not been sent at the end of a process
TAGS = ("request_id", "clerk_id", "entry")  # fields by which Sentry's search finds an error
OPTIONS: dict[str, Any] = {
    "default_integrations": False,
    "auto_enabling_integrations": False,
    "auto_session_tracking": False,
    "include_local_variables": False,
    "max_breadcrumbs": 0,
}


class SentryMissingError(Exception):
    """The extra `sentry` is not installed."""


def build_error_reporter(dsn: str, environment: str) -> ErrorReporter:
    """Return a function that sends a log line and its exception; it never raises.

    Sending happens in a thread of the client. Raises SentryMissingError without the package.
    """
    try:
        sentry = importlib.import_module("sentry_sdk")
    except ModuleNotFoundError:
        raise SentryMissingError from None
    client = sentry.Client(
        dsn=dsn, environment=environment, before_send=lambda event, _: redact_all(event), **OPTIONS
    )
    atexit.register(client.close, CLOSING_SECONDS)

    def report(line: Mapping[str, Any], error: BaseException | None) -> None:
        try:
            client.capture_event(_event(line, error))
        except Exception:  # an error about an error must not hide the first one
            log.warning("error_not_reported", exc_info=True)

    return report


def redact_all(value: Any) -> Any:
    """Return the value with every text in it redacted."""
    match value:
        case str():
            return redact(value)
        case Mapping():
            return {redact(str(name)): redact_all(each) for name, each in value.items()}
        case list() | tuple():
            return [redact_all(each) for each in value]
    return value


def _event(line: Mapping[str, Any], error: BaseException | None) -> dict[str, Any]:
    fields = {name: value for name, value in line.items() if name not in ("event", "level")}
    event: dict[str, Any] = {
        "level": "error",
        "message": str(line["event"]),
        "tags": {name: fields.pop(name) for name in TAGS if name in fields},
        "extra": {name: repr(value) for name, value in fields.items()},
    }
    if error is not None:
        values = [_exception(each) for each in error_chain(error)]
        event["exception"] = {"values": values[::-1]}  # the first cause first
    return event


def _exception(error: BaseException) -> dict[str, Any]:
    frames = [
        {
            "filename": frame.filename,
            "function": frame.name,
            "lineno": frame.lineno,
            "context_line": frame.line,
            "in_app": "site-packages" not in frame.filename,
        }
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    return {
        "type": type(error).__qualname__,
        "module": type(error).__module__,
        "value": safe_message(error),
        "stacktrace": {"frames": frames},
    }
