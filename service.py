"""Flask, without what it does at every request for programs of another kind."""

from collections.abc import Callable
from typing import Any

from flask import Flask, Request
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from itsdangerous import URLSafeTimedSerializer


class Sessions(SecureCookieSessionInterface):
    """Browsers' signed cookies, by one signer for all of them: its key never changes."""

    def __init__(self) -> None:
        self._signer: URLSafeTimedSerializer | None = None

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """The browser's session, and for whoever sends no such cookie an empty one at once."""
        if self.get_cookie_name(app) not in request.environ.get("HTTP_COOKIE", ""):
            return self.session_class()
        return super().open_session(app, request)

    def get_signing_serializer(self, app: Flask) -> URLSafeTimedSerializer | None:
        """The signer; Flask makes a new one for each request, cookie or none."""
        if self._signer is None:
            self._signer = super().get_signing_serializer(app)
        return self._signer


class Service(Flask):
    """The app; its views and hooks are plain functions."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.session_interface = Sessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Take the function as it is, instead of looking each time whether it is a coroutine."""
        return func
