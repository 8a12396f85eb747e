"""The WSGI entry point of gunicorn and of the flask command."""

from app import create_app

app = create_app()
