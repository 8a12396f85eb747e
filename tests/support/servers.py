"""Server processes of tests, whose time limits are longer, because a busy machine may stop them."""

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from benchmarks.servers import AppServer, run_app

TARGET, REAL_TARGET = "tests.support.wsgi:app", "wsgi:app"


def run_test_app(
    folder: Path, request: pytest.FixtureRequest | None = None, /, **settings: str
) -> AbstractContextManager[AppServer]:
    """As `run_app`, with longer time limits unless the test is marked with `real_time_limits`."""
    is_real = request is not None and request.node.get_closest_marker("real_time_limits")
    return run_app(folder, REAL_TARGET if is_real else TARGET, **settings)
