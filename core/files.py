"""What an installation makes for itself at its first start and keeps: files in one folder."""

import secrets
from collections.abc import Callable
from pathlib import Path


def read_or_create(path: Path, make: Callable[[], bytes]) -> bytes:
    """Return the file's content, made at the first call; processes starting together agree on one.

    The file appears whole or not at all and only its owner can read it. Raises OSError where the
    folder cannot be written.
    """
    if not path.exists():
        _publish(path, make())
    return path.read_bytes()


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file so that a reader sees the old content or the new, never a part."""
    _draft(path, content).replace(path)


def _publish(path: Path, content: bytes) -> None:
    """Link the finished draft into place; whoever comes second finds the first one's file."""
    draft = _draft(path, content)
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        pass  # another process was first, and its file is the one that everybody reads
    finally:
        draft.unlink()


def _draft(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    draft.touch(mode=0o600)
    draft.write_bytes(content)
    return draft
