"""Files that an installation makes for itself: once, whole, and for its owner only."""

import secrets
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from stat import S_IMODE
from threading import Barrier

import pytest

from core import files


def unwanted() -> bytes:
    raise AssertionError("made a second time")


def made_together(others: Barrier) -> bytes:
    others.wait(timeout=10)
    return secrets.token_bytes(16)


def test_content_is_made_at_the_first_call(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "key"

    assert files.read_or_create(path, lambda: b"first") == b"first"
    assert path.read_bytes() == b"first"


def test_second_call_finds_the_first_content_and_makes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "key"
    files.read_or_create(path, lambda: b"first")

    assert files.read_or_create(path, unwanted) == b"first"


def test_two_that_start_together_agree_on_one_content(tmp_path: Path) -> None:
    path, both_are_making = tmp_path / "key", Barrier(2)
    keep = partial(files.read_or_create, path, partial(made_together, both_are_making))

    with ThreadPoolExecutor(2) as pool:
        contents = {call.result() for call in [pool.submit(keep), pool.submit(keep)]}

    assert contents == {path.read_bytes()}


def test_late_comer_leaves_no_draft_behind(tmp_path: Path) -> None:
    path = tmp_path / "key"

    def make_too_late() -> bytes:
        path.write_bytes(b"somebody else's")
        return b"mine"

    assert files.read_or_create(path, make_too_late) == b"somebody else's"
    assert list(tmp_path.iterdir()) == [path]


def test_failure_to_make_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        files.read_or_create(tmp_path / "key", unwanted)

    assert list(tmp_path.iterdir()) == []


def test_kept_file_is_for_its_owner_only_and_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"

    files.read_or_create(path, lambda: b"secret")

    assert S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_written_file_replaces_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "person"

    files.write_atomically(path, b"a long first content")
    files.write_atomically(path, b"second")

    assert path.read_bytes() == b"second"


def test_written_file_is_for_its_owner_only_and_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "person"

    files.write_atomically(path, b"content")

    assert S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_reader_of_the_old_content_is_not_disturbed(tmp_path: Path) -> None:
    path = tmp_path / "person"
    files.write_atomically(path, b"old")

    with path.open("rb") as reader:
        files.write_atomically(path, b"new")
        seen = reader.read()

    assert seen == b"old"
