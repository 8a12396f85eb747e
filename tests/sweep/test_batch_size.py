"""Batch size of a sweep: it grows after quick batches and shrinks after slow ones."""

from collections.abc import Iterator

import pytest

from sweep.missing_users import TARGET_SECONDS, BatchSizer


def next_size(size: int, seconds: float, maximum: int = 10_000) -> int:
    """Return the size that follows a batch of this size and duration."""
    clock: Iterator[float] = iter([0.0, seconds])
    sizer = BatchSizer(maximum, lambda: next(clock), size)
    sizer.measure(lambda: None)
    return sizer.size


@pytest.mark.parametrize(
    ("size", "seconds", "after"),
    [
        (1_000, TARGET_SECONDS, 1_000),
        (1_000, TARGET_SECONDS / 1.5, 1_500),
        (1_000, TARGET_SECONDS / 9, 2_000),
        (1_000, 0.0, 2_000),
        (1_000, TARGET_SECONDS * 1.25, 800),
        (1_000, TARGET_SECONDS * 60, 500),
        (150, TARGET_SECONDS * 60, 100),
        (9_000, TARGET_SECONDS / 9, 10_000),
    ],
)
def test_next_batch_size_aims_at_the_target_duration(size: int, seconds: float, after: int) -> None:
    assert next_size(size, seconds) == after


@pytest.mark.parametrize("seconds", [0.0, TARGET_SECONDS * 60])
def test_configured_size_below_the_minimum_is_kept(seconds: float) -> None:
    assert next_size(1_000, seconds, maximum=2) == 2
