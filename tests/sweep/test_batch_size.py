"""The pace of a sweep: batches grow while they are quick, and shrink when they are not."""

from collections.abc import Iterator

import pytest

from sweep.worklist import AIM_SECONDS, BatchSizer


def paced(size: int, seconds: float, most: int = 10_000) -> int:
    """The size after a batch of that size and duration."""
    clock: Iterator[float] = iter([0.0, seconds])
    pace = BatchSizer(most, lambda: next(clock), size)
    pace.measure(lambda: None)
    return pace.size


@pytest.mark.parametrize(
    ("size", "seconds", "after"),
    [
        (1_000, AIM_SECONDS, 1_000),
        (1_000, AIM_SECONDS / 1.5, 1_500),
        (1_000, AIM_SECONDS / 9, 2_000),
        (1_000, 0.0, 2_000),
        (1_000, AIM_SECONDS * 1.25, 800),
        (1_000, AIM_SECONDS * 60, 500),
        (150, AIM_SECONDS * 60, 100),
        (9_000, AIM_SECONDS / 9, 10_000),
    ],
)
def test_next_batch_takes_as_long_as_it_should(size: int, seconds: float, after: int) -> None:
    assert paced(size, seconds) == after


@pytest.mark.parametrize("seconds", [0.0, AIM_SECONDS * 60])
def test_wanted_size_below_all_others_is_kept(seconds: float) -> None:
    assert paced(1_000, seconds, most=2) == 2
