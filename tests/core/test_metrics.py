"""The folder in which processes count together: begun anew with the server, and never whole."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from core.metrics import MultiprocessCollector, remove_dead_processes

NOBODY = 2**22 + 1  # no process has so high a number


@pytest.mark.parametrize(
    ("pid", "is_kept"),
    [(os.getppid(), True), (NOBODY, False), (os.getpid(), False)],
    ids=["somebody", "nobody", "ourselves"],
)
def test_what_ended_processes_have_counted_is_dropped(
    tmp_path: Path, pid: int, is_kept: bool
) -> None:
    file = tmp_path / f"counter_{pid}.db"
    file.touch()

    remove_dead_processes(tmp_path)

    assert file.exists() == is_kept


def counted(folder: Path, pid: int, number: int) -> Path:
    """A file in which that process has counted so many logins."""
    file = folder / f"counter_{pid}.db"
    kept = MmapedDict(str(file))  # type: ignore[no-untyped-call]
    key = mmap_key("logins", "logins_total", [], [], "Logins.")
    kept.write_value(key, number, 0)  # type: ignore[no-untyped-call]
    kept.close()  # type: ignore[no-untyped-call]
    return file


def total(metrics: Iterable[Metric]) -> float:
    """How many logins all of them have counted."""
    [metric] = metrics
    return sum(sample.value for sample in metric.samples)


def test_process_that_has_just_begun_to_count_adds_nothing(tmp_path: Path) -> None:
    counted(tmp_path, 1, 2)
    counted(tmp_path, 2, 3)
    (tmp_path / "counter_3.db").touch()

    assert total(MultiprocessCollector(None, path=str(tmp_path)).collect()) == 2 + 3  # type: ignore[no-untyped-call]


def test_file_that_is_dropped_after_it_was_listed_counts_no_more(tmp_path: Path) -> None:
    counted(tmp_path, 1, 2)
    dropped = counted(tmp_path, 2, 3)

    class Overtaken(MultiprocessCollector):
        @staticmethod
        def merge(files: list[str], accumulate: bool = True) -> Iterable[Metric]:
            dropped.unlink(missing_ok=True)
            summed: Iterable[Metric] = MultiprocessCollector.merge(files, accumulate)  # type: ignore[no-untyped-call]
            return summed

    assert total(Overtaken(None, path=str(tmp_path)).collect()) == 2  # type: ignore[no-untyped-call]
