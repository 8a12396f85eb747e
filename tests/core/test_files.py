"""Files that the app creates: each is written once, atomically, and readable by its owner only."""

import secrets
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from stat import S_IMODE
from threading import Barrier

import pytest

from core import files


def fail_if_called() -> bytes:
    raise AssertionError("created a second time")


def wait_and_create(barrier: Barrier) -> bytes:
    barrier.wait(timeout=10)
    return secrets.token_bytes(16)


def test_first_call_creates_the_content(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "key"

    assert files.read_or_create(path, lambda: b"first") == b"first"
    assert path.read_bytes() == b"first"


def test_second_call_returns_the_first_content(tmp_path: Path) -> None:
    path = tmp_path / "key"
    files.read_or_create(path, lambda: b"first")

    assert files.read_or_create(path, fail_if_called) == b"first"


def test_concurrent_calls_return_one_content(tmp_path: Path) -> None:
    path, both_creating = tmp_path / "key", Barrier(2)
    create = partial(files.read_or_create, path, partial(wait_and_create, both_creating))

    with ThreadPoolExecutor(2) as pool:
        contents = {call.result() for call in [pool.submit(create), pool.submit(create)]}

    assert contents == {path.read_bytes()}


def test_call_that_loses_the_race_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "key"

    def create_too_late() -> bytes:
        path.write_bytes(b"of another process")
        return b"of this process"

    assert files.read_or_create(path, create_too_late) == b"of another process"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_creation_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        files.read_or_create(tmp_path / "key", fail_if_called)

    assert list(tmp_path.iterdir()) == []


def test_created_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "key"

    files.read_or_create(path, lambda: b"secret")

    assert S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_written_file_replaces_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "user"

    files.write_atomically(path, b"a long first content")
    files.write_atomically(path, b"second")

    assert path.read_bytes() == b"second"


def test_written_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "user"

    files.write_atomically(path, b"content")

    assert S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_open_reader_still_reads_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "user"
    files.write_atomically(path, b"old")

    with path.open("rb") as reader:
        files.write_atomically(path, b"new")
        content = reader.read()

    assert content == b"old"
