"""The worker's request timeout grows with the body, up to a limit."""

import pytest

from core.gunicorn_worker import request_timeout_seconds


@pytest.mark.parametrize(
    ("body_bytes", "seconds"),
    [(0, 10), (64 * 1024, 11), (4 * 1024 * 1024, 74), (10**400, 74)],
)
def test_timeout_grows_with_the_body_up_to_a_limit(body_bytes: int, seconds: float) -> None:
    assert request_timeout_seconds(body_bytes) == seconds
