"""The soak test distinguishes a leak from a warm-up."""

import pytest

from benchmarks.soak import MEGABYTE, Sample, judge

HUNDRED = 100 * MEGABYTE


def sample(second: int, **changes: object) -> Sample:
    defaults: dict[str, object] = {
        "seconds": second,
        "resident_bytes": {7: HUNDRED, 8: HUNDRED},
        "connections": {7: 8, 8: 9},
        "idle": 0,
        "oldest_idle_seconds": 0.0,
    }
    return Sample(**{**defaults, **changes})  # type: ignore[arg-type] # by the table below


def samples_from(second: int, **changes: object) -> list[Sample]:
    """A hundred samples with other values from that second on."""
    return [sample(i, **(changes if i >= second else {})) for i in range(100)]


@pytest.mark.parametrize(
    ("samples", "problems"),
    [
        (samples_from(100), []),
        (samples_from(10, resident_bytes={7: 2 * HUNDRED, 8: HUNDRED}), []),
        (samples_from(60, resident_bytes={7: HUNDRED, 8: 108 * MEGABYTE}), []),
        (samples_from(60, resident_bytes={7: HUNDRED, 8: 112 * MEGABYTE}), ["memory grew by 6.0%"]),
        (samples_from(99, connections={7: 20, 8: 20}), []),
        (samples_from(99, connections={7: 8, 8: 21}), ["a process had 21 connections"]),
        (samples_from(99, idle=1, oldest_idle_seconds=0.9), []),
        (samples_from(99, oldest_idle_seconds=1.2), ["a transaction was left open for 1.2 s"]),
        (samples_from(99, resident_bytes={7: HUNDRED, 9: HUNDRED}), ["a worker was replaced"]),
        ([], ["there was too little to look at"]),
    ],
)
def test_each_leak_is_named(samples: list[Sample], problems: list[str]) -> None:
    assert judge(samples, 100) == problems
