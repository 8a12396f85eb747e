"""The folder in which processes count together begins anew with the server."""

import os
from pathlib import Path

import pytest

from metrics import forget_the_ended

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

    forget_the_ended(tmp_path)

    assert file.exists() == is_kept
