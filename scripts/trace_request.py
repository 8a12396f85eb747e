"""Count the functions of this project that a request enters, and their files.

`python -m scripts.trace_request` traces the first `GET /dashboard` of a new user in a new process,
that of another user in the same process, and a warm `GET /api/auth/me`, on a new PostgreSQL server.
`--list` prints every function in the order of its first call. The first request of a process also
opens the database connection and reads the published keys.
"""

import argparse
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade

from app import create_app
from core.config import Config
from core.database import db
from core.logging import configure_logs
from dev import postgres
from dev.fake_clerk import DevIdentityProvider, DevUser
from web.services import EXTENSION

PROJECT = Path(__file__).resolve().parent.parent
FIRST = DevUser("user_traced", "Tereza Traço", "tereza@example.com")
SECOND = DevUser("user_traced_next", "Bento Traço", "bento@example.com")
NESTED_SCOPES = ("<module>", "<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>")

Function = tuple[str, str]  # its file within the project, and its qualified name


def main() -> int:
    """Trace both requests and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="name every function")
    options = parser.parse_args()
    configure_logs("json", is_production=True)
    with tempfile.TemporaryDirectory(prefix="trace") as folder, serving(Path(folder)) as app:
        provider: DevIdentityProvider = app.extensions[EXTENSION].dev_provider
        traced = {}
        for name, user in (("first", FIRST), ("first in a warm process", SECOND)):
            client = app.test_client()
            client.set_cookie("__session", provider.token(user))
            traced[f"GET /dashboard, {name}"] = trace(client, "/dashboard")
        trace(client, "/api/auth/me")  # fills the caches that the warm request reads
        traced["GET /api/auth/me, warm"] = trace(client, "/api/auth/me")
    for name, entered in traced.items():
        files = {file for file, _ in entered}
        print(f"{name}: {len(entered)} functions in {len(files)} files")
        if options.list:
            print(*(f"    {file}: {function}" for file, function in entered), sep="\n")
    return 0


@contextmanager
def serving(folder: Path) -> Iterator[Flask]:
    """Create an app on a new database, which is stopped at the end."""
    url = postgres.start(folder)
    try:
        app = create_app(Config(instance_path=folder, database_url=url))
        with app.app_context():
            upgrade()
            yield app
            db.engine.dispose()
    finally:
        postgres.release(folder)


def trace(client: FlaskClient, path: str) -> list[Function]:
    """Request the page and return the project's functions, in the order of their first call.

    Threads that the request starts are included. Raises RuntimeError for a status other than 200.
    """
    entered: dict[Function, None] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_name not in NESTED_SCOPES:
            file = Path(code.co_filename)
            is_ours = file.suffix == ".py" and file.is_relative_to(PROJECT)
            if is_ours and not file.is_relative_to(PROJECT / ".venv"):
                entered.setdefault((str(file.relative_to(PROJECT)), code.co_qualname))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        answer = client.get(path)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    if answer.status_code != 200:
        raise RuntimeError(f"{path} was answered with {answer.status}")
    return list(entered)


if __name__ == "__main__":
    sys.exit(main())
