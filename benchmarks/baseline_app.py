"""The baseline: a view that returns constant JSON, served by the same process as the app.

    gunicorn benchmarks.baseline_app:app

The process, threads and gunicorn are the same. The view belongs to a plain Flask app.
"""

from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from benchmarks.floor_app import floor
from benchmarks.raw_client import BASELINE_PATH, FLOOR_PATH
from wsgi import app

ANSWER: dict[str, object] = {
    "user": {"id": 1, "clerk_id": "user_1", "name": "Ana Silva", "email": None, "role": "user"},
    "mentorado": {"id": 1, "user_id": 1, "nome_completo": "Ana Silva", "turma": "neon"},
    "status": "ready",
}

baseline = Flask(__name__)


@baseline.get("/")
def view() -> dict[str, object]:
    """Return JSON of about the size of GET /api/auth/me."""
    return ANSWER


app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {BASELINE_PATH: baseline, FLOOR_PATH: floor})  # type: ignore[method-assign]
