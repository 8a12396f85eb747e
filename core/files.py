"""Files of the instance folder: created once or replaced, always atomically."""

import secrets
from collections.abc import Callable
from pathlib import Path


def read_or_create(path: Path, make: Callable[[], bytes]) -> bytes:
    """Return the file's content; `make` provides it at the first call.

    Processes that start together get the same content. The file appears whole or not at all, and
    only its owner can read it. Raises OSError where the folder cannot be written.
    """
    if not path.exists():
        draft = _write_draft(path, make())
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            pass  # another process was faster: its file counts
        finally:
            draft.unlink()
    return path.read_bytes()


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file; a reader sees the old content or the new, never a part."""
    _write_draft(path, content).replace(path)


def _write_draft(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    draft.touch(mode=0o600)
    draft.write_bytes(content)
    return draft
