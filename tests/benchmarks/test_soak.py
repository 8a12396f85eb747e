"""The soak tells a leak from a warm-up."""

import pytest

from benchmarks.soak import MEGABYTE, Look, judge

HUNDRED = 100 * MEGABYTE


def look(second: int, **otherwise: object) -> Look:
    usual: dict[str, object] = {
        "seconds": second,
        "resident_bytes": {7: HUNDRED, 8: HUNDRED},
        "connections": {7: 8, 8: 9},
        "idle": 0,
        "oldest_idle_seconds": 0.0,
    }
    return Look(**{**usual, **otherwise})  # type: ignore[arg-type] # by the table below


def after(second: int, **otherwise: object) -> list[Look]:
    """A hundred looks, which see something else from that second on."""
    return [look(i, **(otherwise if i >= second else {})) for i in range(100)]


@pytest.mark.parametrize(
    ("looks", "problems"),
    [
        (after(100), []),
        (after(10, resident_bytes={7: 2 * HUNDRED, 8: HUNDRED}), []),
        (after(60, resident_bytes={7: HUNDRED, 8: 108 * MEGABYTE}), []),
        (after(60, resident_bytes={7: HUNDRED, 8: 112 * MEGABYTE}), ["memory grew by 6.0%"]),
        (after(99, connections={7: 20, 8: 20}), []),
        (after(99, connections={7: 8, 8: 21}), ["a process had 21 connections"]),
        (after(99, idle=1, oldest_idle_seconds=0.9), []),
        (after(99, oldest_idle_seconds=1.2), ["a transaction was left open for 1.2 s"]),
        (after(99, resident_bytes={7: HUNDRED, 9: HUNDRED}), ["a worker was replaced"]),
        ([], ["there was too little to look at"]),
    ],
)
def test_each_leak_is_called_by_its_name(looks: list[Look], problems: list[str]) -> None:
    assert judge(looks, 100) == problems
