"""Registration of the flask commands and of Flask-Migrate, at the first use of a command."""

from flask import Flask
from flask_migrate import Migrate

from cli import admin, adopt, installation, person, provisioning
from cli.error_reports import report_errors_in_one_line
from core.database import db


def register_commands(app: Flask) -> None:
    """Add all commands to `flask`; each reports database errors in one line."""
    init_migrate(app)
    provisioning.register_provisioning_commands(app)
    admin.register(app)
    person.register(app)
    adopt.register(app)
    installation.register(app)
    report_errors_in_one_line(app)


def init_migrate(app: Flask) -> None:
    """Initialise Flask-Migrate, which also adds the command `db`."""
    Migrate(db=db, compare_type=True, compare_server_default=True).init_app(app)
