"""The folder of the multiprocess metrics: cleaned at a start, and read while it changes."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from core.metrics import MultiprocessCollector, remove_dead_processes

UNUSED_PID = 2**22 + 1  # higher than any process id


@pytest.mark.parametrize(
    ("pid", "is_kept"),
    [(os.getppid(), True), (UNUSED_PID, False), (os.getpid(), False)],
    ids=["running process", "ended process", "own process"],
)
def test_files_of_ended_processes_are_deleted(tmp_path: Path, pid: int, is_kept: bool) -> None:
    file = tmp_path / f"counter_{pid}.db"
    file.touch()

    remove_dead_processes(tmp_path)

    assert file.exists() == is_kept


def test_folder_that_cannot_be_read_ends_nothing(tmp_path: Path) -> None:
    remove_dead_processes(tmp_path / ("x" * 256))  # a name that no file system accepts


def write_counter(folder: Path, pid: int, number: int) -> Path:
    """Write the file of a process that has write_counter `number` logins and return its path."""
    file = folder / f"counter_{pid}.db"
    values = MmapedDict(str(file))  # type: ignore[no-untyped-call]
    key = mmap_key("logins", "logins_total", [], [], "Logins.")
    values.write_value(key, number, 0)  # type: ignore[no-untyped-call]
    values.close()  # type: ignore[no-untyped-call]
    return file


def total(metrics: Iterable[Metric]) -> float:
    """Return the logins that all processes have write_counter."""
    [metric] = metrics
    return sum(sample.value for sample in metric.samples)


def test_empty_file_of_a_new_process_counts_as_zero(tmp_path: Path) -> None:
    write_counter(tmp_path, 1, 2)
    write_counter(tmp_path, 2, 3)
    (tmp_path / "counter_3.db").touch()

    assert total(MultiprocessCollector(None, path=str(tmp_path)).collect()) == 2 + 3  # type: ignore[no-untyped-call]


def test_file_deleted_while_it_is_read_is_ignored(tmp_path: Path) -> None:
    write_counter(tmp_path, 1, 2)
    deleted = write_counter(tmp_path, 2, 3)

    class CollectorWithRace(MultiprocessCollector):
        @staticmethod
        def merge(files: list[str], accumulate: bool = True) -> Iterable[Metric]:
            deleted.unlink(missing_ok=True)
            summed: Iterable[Metric] = MultiprocessCollector.merge(files, accumulate)  # type: ignore[no-untyped-call]
            return summed

    assert total(CollectorWithRace(None, path=str(tmp_path)).collect()) == 2  # type: ignore[no-untyped-call]
