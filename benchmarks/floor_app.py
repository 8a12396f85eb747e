"""The lower limit of a first login: its statements and its call to Clerk, and nothing else.

The view sends the same two messages to PostgreSQL as the app, by psycopg2, and optionally the same
call to Clerk. No session is verified, no limit counted, nothing cached, retried or logged. What the
app costs beside this view is its own work.
"""

import json
import os
import threading
from datetime import UTC, datetime
from typing import Any

import psycopg2
from flask import Flask, request

from core.bounded_http import BoundedClient
from provisioning.ensure import UPSERT_AND_LOAD

PARAMETERS = {
    "name": "Ana Silva",
    "email_verified": True,
    "image_url": None,
    "login_method": None,
    "is_complete": True,
    "as_of": None,
    "signs_in": True,
    "may_create": True,
    "entry": "page",
    "actor_id": None,
    "request_id": None,
    "details": None,
}
# SQLAlchemy's `:name` in the form of psycopg2.
STATEMENT = "BEGIN; " + str(UPSERT_AND_LOAD.compile().statement).replace("%", "%%")
for name in (*PARAMETERS, "clerk_id", "email", "now"):
    STATEMENT = STATEMENT.replace(f":{name}", f"%({name})s")

floor = Flask(__name__)
clerk = BoundedClient(f"{os.environ.get('CLERK_API_URL', '')}/v1")
thread = threading.local()


@floor.post("/<clerk_id>")
def log_in(clerk_id: str) -> tuple[dict[str, Any], int]:
    """Store the user, create the profile and commit; with `?call` after a call to Clerk."""
    email = f"{clerk_id}@bench.example.com"
    if "call" in request.args:
        answer = clerk.request("GET", f"/users/{clerk_id}", seconds=3, max_bytes=1_000_000)
        email = json.loads(answer.body)["email_addresses"][0]["email_address"]
    values = {**PARAMETERS, "clerk_id": clerk_id, "email": email, "now": datetime.now(UTC)}
    with _connection().cursor() as cursor:
        cursor.execute(STATEMENT, values)
        row = cursor.fetchone()
        cursor.execute("COMMIT")
    return {"user": row[0], "mentorado": row[1]}, 201 if row[-1] else 200


def _connection() -> Any:
    if not hasattr(thread, "connection"):
        url = os.environ["DATABASE_URL"].replace("postgresql+psycopg2://", "postgresql://")
        thread.connection = psycopg2.connect(url)
        thread.connection.autocommit = True
    return thread.connection
