"""What `flask shell` has at hand: the tables, the parts of the house, and the one way to commit."""

from typing import Any

from flask import Flask
from sqlalchemy import func, select

import models
from extensions import background_transaction, db
from house import house
from provisioning.audit import Entry
from provisioning.identity import Identity


def register(app: Flask) -> None:
    """Offer them under the names that the code itself uses."""
    app.shell_context_processor(_context)


def _context() -> dict[str, Any]:
    """`with background_transaction() as session:` commits at its end, like everything of ours."""
    return {
        **{name: getattr(models, name) for name in models.__all__},
        "db": db,
        "select": select,
        "func": func,
        "background_transaction": background_transaction,
        "house": house(),
        "Entry": Entry,
        "Identity": Identity,
    }
