"""Log configuration and redaction: JSON lines, or readable lines on a developer's terminal."""

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import psycopg2
import structlog
from pydantic import ValidationError
from sqlalchemy.exc import StatementError
from structlog.typing import EventDict, Processor

MAX_MESSAGE_LENGTH = 500
# Both patterns take linear time: clients choose what lines contain.
WORD = re.compile(r"""[^\s"'<>\\]+""")
SECRETS = re.compile(r"eyJ[\w-]{10,}[\w.-]*|(?:sk|whsec)_\w{6,}")
MARKS = ("@", "eyJ", "sk_", "whsec_")  # a line without one of these needs no search
REDACTED = "[withheld]"
ENCODE = json.JSONEncoder(default=repr).encode  # one for all lines, for speed


def write_line(_: object, __: str, event: EventDict | str) -> str:
    """Return the line of an event without secrets and e-mail addresses; ends structlog's chain.

    An event that is not a text yet becomes JSON. Redacted are words with an @ inside (an address, a
    URL with a password before its host), signed tokens, and Clerk's keys.
    """
    line = event if isinstance(event, str) else ENCODE(event)
    return WORD.sub(_redact_word, line) if any(mark in line for mark in MARKS) else line


def redact(text: str) -> str:
    """Return a text without secrets and e-mail addresses, as `write_line`."""
    return write_line(None, "", text)


def _redact_word(match: re.Match[str]) -> str:
    text = match[0]
    return REDACTED if "@" in text[1:-1] else SECRETS.sub(REDACTED, text)


def _exception(exc_info: object) -> BaseException | None:
    """Return the exception of `exc_info`: an exception, or a triple; None for anything else."""
    if isinstance(exc_info, tuple):
        exc_info = exc_info[1]
    return exc_info if isinstance(exc_info, BaseException) else None


def _exception_text(error: BaseException) -> Iterator[str]:
    for each in error_chain(error):
        kind = f"{type(each).__module__}.{type(each).__qualname__}"
        frames = "".join(traceback.format_tb(each.__traceback__))
        yield f"{kind}: {safe_message(each)}\n{frames}"


def error_chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and its chain of causes, the outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def safe_message(error: BaseException) -> str:
    """Return the error's message without values of rows and of requests."""
    match error:
        case StatementError():
            return ""  # its text contains parameters; its cause follows
        case psycopg2.Error() if error.pgcode:
            about = (error.diag.table_name, error.diag.column_name, error.diag.constraint_name)
            return " ".join([error.pgcode, *filter(None, about)])
        case ValidationError():
            problems = error.errors(include_url=False, include_input=False, include_context=False)
            return ", ".join(f"{'.'.join(map(str, p['loc']))}: {p['type']}" for p in problems)
        case _:
            return str(error)[:MAX_MESSAGE_LENGTH]


# Log levels of libraries whose details are not needed, or are logged here already (Flask).
LIBRARY_LEVELS = {
    **dict.fromkeys(("apscheduler", "alembic", "werkzeug", "backoff"), "WARNING"),
    **dict.fromkeys(("httpx", "httpcore"), "WARNING"),  # addresses of calls, with nonces and ids
    "urllib3": "ERROR",  # repeated attempts to reach Sentry
    "apscheduler.scheduler": "ERROR",  # it warns of every run that is skipped during a long sweep
    "app": "CRITICAL",
}
# gunicorn would configure its own handlers; these settings send its lines to the root logger.
GUNICORN: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "loggers": {"gunicorn.error": {"level": "WARNING", "handlers": [], "propagate": True}},
}

LEADING_KEYS = ("request_id", "clerk_id")  # of the bound values (docs/reference/contract.md#events)

# Receives the fields of a line that needs an operator, and its exception.
ErrorReporter = Callable[[Mapping[str, Any], BaseException | None], None]
REPORTED_METHODS = ("error", "exception", "critical")


def configure_logs(
    log_format: str | None, *, is_production: bool, report: ErrorReporter | None = None
) -> None:
    """Send the logs of this program and of its libraries to standard error in one format.

    `report` also receives the lines of level error and above.
    """
    complete: list[Processor] = [_reporter(report)] if report else []
    complete.append(_complete_event)
    render: list[Processor] = [write_line]
    if uses_console(log_format, is_production=is_production):
        console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        render = [_use_local_time, console, write_line]
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        processors=[*complete, *render],
        # Directly to the stream, because the standard library takes three times as long.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*complete, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.captureWarnings(capture=True)
    for name, level in LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(level)


def uses_console(log_format: str | None, *, is_production: bool) -> bool:
    """Whether lines are for people: as set, otherwise on a terminal in development."""
    if log_format is None:
        return not is_production and sys.stderr.isatty()
    return log_format == "console"


def _reporter(report: ErrorReporter) -> Processor:
    def process(_: object, method: str, event: EventDict) -> EventDict:
        if method in REPORTED_METHODS:
            bound = structlog.contextvars.get_contextvars()
            own = {name: each for name, each in event.items() if not name.startswith("_")}
            error = _exception(own.pop("exc_info", None))
            report({**bound, **own}, error)
        return event

    return process


def _use_local_time(_: object, __: str, event: EventDict) -> EventDict:
    """Show the time of day where the developer is, and no process id."""
    event.pop("pid", None)
    return {**event, "timestamp": datetime.now().astimezone().strftime("%H:%M:%S")}


def _complete_event(_: object, method: str, event: EventDict) -> EventDict:
    """Add time, level, process and exception to an event and order its keys, in one step for speed.

    Values bound to the request come before the others; `pid` tells the workers apart. The exception
    is its type, message and traceback, without personal data.
    """
    bound = structlog.contextvars.get_contextvars()
    error = event.pop("exc_info", None)
    complete = {
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "level": "error" if method == "exception" else method,
        "event": event.pop("event"),
        **{name: bound[name] for name in LEADING_KEYS if name in bound},
        **bound,
        **event,
        "pid": os.getpid(),
    }
    exception = None if error is None else _exception(error)
    if exception is not None:
        complete["exception"] = "\n".join(_exception_text(exception))
    return complete
