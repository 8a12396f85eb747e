"""How many requests were answered, and how fast."""

import re
import time
from functools import cache

from flask import Flask, Response, g, request
from prometheus_client import Counter, Histogram

import metrics

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
CONVERTER = re.compile(r"<(?:[^<>]*:)?(\w+)>")


def register_measuring(app: Flask) -> None:
    """Have every request counted under its route; to be registered before the gate."""
    app.before_request(_start)
    app.after_request(_count)


def _start() -> None:
    g.started = time.monotonic()


def _count(response: Response) -> Response:
    """Labels come from tables of ours, never from what was sent, of which there is no end."""
    method = request.method if request.method in METHODS else "other"
    rule = request.url_rule.rule if request.url_rule else "unknown"
    requests, seconds = _counters(method, rule, response.status_code)
    requests.inc()
    seconds.observe(time.monotonic() - g.started)
    return response


@cache
def _counters(method: str, rule: str, status: int) -> tuple[Counter, Histogram]:
    route = CONVERTER.sub(r"<\1>", rule)
    requests = metrics.HTTP_REQUESTS.labels(method, route, status)
    return requests, metrics.HTTP_SECONDS.labels(method, route)
