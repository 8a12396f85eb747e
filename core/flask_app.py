"""Flask, without what it does at every request for programs of another kind."""

import json
from collections.abc import Callable
from typing import Any

from flask import Flask, Request
from flask.json.provider import DefaultJSONProvider
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from itsdangerous import URLSafeTimedSerializer

COMPACT = {"separators"}


class NoSessions(SecureCookieSessionInterface):
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


class CompactJson(DefaultJSONProvider):
    """Answers as they are read: as they stand, in any script; by one encoder for all of them."""

    sort_keys, ensure_ascii, compact = False, False, True

    def __init__(self, app: Flask) -> None:
        super().__init__(app)
        encoder = json.JSONEncoder(
            ensure_ascii=False, separators=(",", ":"), default=DefaultJSONProvider.default
        )
        self._encode = encoder.encode

    def dumps(self, obj: Any, **options: Any) -> str:
        """Encode; only whoever asks for more than compactness gets an encoder of their own."""
        return super().dumps(obj, **options) if options.keys() - COMPACT else self._encode(obj)


class LeanFlask(Flask):
    """The app; its views and hooks are plain functions."""

    json_provider_class = CompactJson

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.session_interface = NoSessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Take the function as it is, instead of looking each time whether it is a coroutine."""
        return func
