"""How the program speaks: one JSON object a line, or a readable line on a developer's terminal."""

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from datetime import UTC, datetime
from typing import Any

import psycopg2
import structlog
from pydantic import ValidationError
from sqlalchemy.exc import StatementError
from structlog.typing import EventDict, Processor

LONGEST_MESSAGE = 500
# Every character is looked at a bounded number of times: others choose what lines contain.
WORD = re.compile(r"""[^\s"'<>\\]+""")
KEYS = re.compile(r"eyJ[\w-]{10,}[\w.-]*|(?:sk|whsec)_\w{6,}")
MARKS = ("@", "eyJ", "sk_", "whsec_")  # spares nearly every line the search
REDACTED = "[withheld]"


def redact(line: str) -> str:
    """The line without what looks like a secret or an address, wherever it came from.

    Withheld are words with an @ inside (an address, a URL with a password before its host), signed
    tokens, and keys of Clerk's.
    """
    return WORD.sub(_redacted, line) if any(mark in line for mark in MARKS) else line


def _redacted(word: re.Match[str]) -> str:
    text = word[0]
    return REDACTED if "@" in text[1:-1] else KEYS.sub(REDACTED, text)


def describe_exception(
    _: object, __: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace `exc_info` by where and how it happened, without the values it happened to."""
    error = _exception(event.pop("exc_info", None))
    if error is not None:
        event["exception"] = "\n".join(_exception_text(error))
    return event


def _exception(exc_info: object) -> BaseException | None:
    """What structlog and the standard library pass on: an exception, a triple, or just a claim."""
    if isinstance(exc_info, tuple):
        exc_info = exc_info[1]
    return exc_info if isinstance(exc_info, BaseException) else None


def _exception_text(error: BaseException | None) -> Iterator[str]:
    """The chain of causes, the outermost first."""
    while error is not None:
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        frames = "".join(traceback.format_tb(error.__traceback__))
        yield f"{kind}: {_message(error)}\n{frames}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _message(error: BaseException) -> str:
    match error:
        case StatementError():
            return ""  # its cause follows
        case psycopg2.Error() if error.pgcode:
            about = (error.diag.table_name, error.diag.column_name, error.diag.constraint_name)
            return " ".join([error.pgcode, *filter(None, about)])
        case ValidationError():
            problems = error.errors(include_url=False, include_input=False, include_context=False)
            return ", ".join(f"{'.'.join(map(str, p['loc']))}: {p['type']}" for p in problems)
        case _:
            return str(error)[:LONGEST_MESSAGE]


# Libraries that tell at length what is none of our business, or what we tell ourselves (Flask).
QUIET = {
    **dict.fromkeys(("apscheduler", "alembic", "werkzeug", "backoff"), "WARNING"),
    **dict.fromkeys(("httpx", "httpcore"), "WARNING"),  # addresses of calls, with nonces and ids
    "apscheduler.scheduler": "ERROR",  # it warns of every look that a long sweep stands in for
    "app": "CRITICAL",
}
# gunicorn would write lines of its own; these let it speak through the root logger.
GUNICORN: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "loggers": {"gunicorn.error": {"level": "WARNING", "handlers": [], "propagate": True}},
}

FIRST = ("request_id", "clerk_id")  # of what is bound to a request (CONTRACT section 5)


def configure_logs(log_format: str | None, *, is_production: bool) -> None:
    """Send the logs of this program and of its libraries to standard error in one format.

    Without a given format: readable on a terminal in development, JSON everywhere else.
    """
    is_console = log_format == "console" or (
        log_format is None and not is_production and sys.stderr.isatty()
    )
    render = _console() if is_console else _json()
    _configure_ours(render)
    _configure_libraries(render)


def _configure_ours(render: list[Processor]) -> None:
    """Straight to the stream: the standard library's way costs three times as much."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        processors=[*_facts(), *render],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _configure_libraries(render: list[Processor]) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_facts(), structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.captureWarnings(capture=True)
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)


def _facts() -> list[Processor]:
    return [_add_process_facts, describe_exception]


def _json() -> list[Processor]:
    write = json.JSONEncoder(default=repr).encode  # one for all lines
    return [lambda _, __, event: write(event), _redact_event]


def _console() -> list[Processor]:
    return [structlog.dev.ConsoleRenderer(), _redact_event]


def _add_process_facts(_: object, method: str, event: EventDict) -> EventDict:
    """What every line tells, in the order in which readers ask: in one go, since each request pays.

    What is bound to the request comes first of the rest; the process tells the workers apart.
    """
    bound = structlog.contextvars.get_contextvars()
    return {
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "level": "error" if method == "exception" else method,
        "event": event.pop("event"),
        **{name: bound[name] for name in FIRST if name in bound},
        **bound,
        **event,
        "pid": os.getpid(),
    }


def _redact_event(_: object, __: str, line: Any) -> Any:
    return redact(line)
