"""Apps in the process of a test, on a database of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask import Flask

from app import create_app
from benchmarks import servers
from core.config import Config
from core.database import db

UNLIMITED = {name.lower(): int(number) for name, number in servers.UNLIMITED.items()}


@contextmanager
def create_app_on(folder: Path, url: str, **settings: object) -> Iterator[Flask]:
    """Create an app on that database, with real commits; its connections are closed at the end."""
    values = {"instance_path": folder, "database_url": url, **UNLIMITED, **settings}
    app = create_app(Config.model_validate(values))
    with app.app_context():
        yield app
        db.engine.dispose()
