"""Fixtures of the tests of `auth`."""

import pytest

from tests.support.session_tokens import StoppedClock


@pytest.fixture
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock of PyJWT, which takes no time as an argument."""
    monkeypatch.setattr("jwt.api_jwt.datetime", StoppedClock)
