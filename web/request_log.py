"""One console line a request, for developers: method, path, status and milliseconds."""

import time
from urllib.parse import quote

import structlog
from flask import Flask, Response, g, request

from core.config import Config
from core.logging import uses_console

log = structlog.get_logger(__name__)


def register_request_log(app: Flask, config: Config) -> None:
    """Log each request where the log is read on a terminal; production counts them instead.

    Must be registered before hooks that may answer a request themselves.
    """
    is_production = config.is_production
    if not is_production and uses_console(config.log_format, is_production=is_production):
        app.after_request(_log_request)


def _log_request(response: Response) -> Response:
    milliseconds = (time.monotonic() - g.started) * 1000
    path = quote(request.path)  # a client chooses it, and a terminal obeys control characters
    log.info(f"{request.method} {path} {response.status_code} {milliseconds:.0f} ms")
    return response
