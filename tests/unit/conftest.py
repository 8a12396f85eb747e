"""What several of the unit tests begin with."""

import pytest

from tests.crowding import Clock


@pytest.fixture
def clock() -> Clock:
    """Time that stands still until it is moved."""
    return Clock()
