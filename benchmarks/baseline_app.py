"""The yardstick: a view that does nothing but answer in JSON, in the same server beside the app.

    gunicorn benchmarks.baseline_app:app

Same process, same threads, same gunicorn; the view's own app is Flask as it comes.
"""

from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from benchmarks.raw_client import BARE
from wsgi import app

ANSWER: dict[str, object] = {
    "user": {"id": 1, "clerk_id": "user_1", "name": "Ana Silva", "email": None, "role": "user"},
    "mentorado": {"id": 1, "user_id": 1, "nome_completo": "Ana Silva", "turma": "neon"},
    "status": "ready",
}

bare = Flask(__name__)


@bare.get("/")
def view() -> dict[str, object]:
    """Answer; about as much as GET /api/auth/me does."""
    return ANSWER


app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {BARE: bare})  # type: ignore[method-assign]
