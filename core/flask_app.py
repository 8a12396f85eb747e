"""A Flask subclass without work that this app does not need, and parts that load when used."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any
from wsgiref.types import WSGIEnvironment

import click
from flask import Flask, Request, Response
from flask.cli import AppGroup
from flask.json.provider import DefaultJSONProvider
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from itsdangerous import URLSafeTimedSerializer

SESSION_COOKIE = re.compile(r"(?:^|[;,\s])session=")  # Flask's own, not Clerk's `__session`


class LazySessionInterface(SecureCookieSessionInterface):
    """Flask's signed cookie sessions with one shared signer, because the key never changes."""

    _signer: URLSafeTimedSerializer | None = None

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """Return the browser's session; an empty one without parsing if it sends no cookie."""
        cookies = request.environ.get("HTTP_COOKIE", "")
        if not cookies or SESSION_COOKIE.search(cookies) is None:
            return self.session_class()
        return super().open_session(app, request)

    def get_signing_serializer(self, app: Flask) -> URLSafeTimedSerializer | None:
        """Return the shared signer; Flask would create one for each request."""
        if self._signer is None:
            self._signer = super().get_signing_serializer(app)
        return self._signer


class CompactJson(DefaultJSONProvider):
    """JSON in the order of its keys, without ASCII escapes, by one shared encoder."""

    sort_keys, ensure_ascii, compact = False, False, True

    def __init__(self, app: Flask) -> None:
        super().__init__(app)
        self._encode = json.JSONEncoder(
            ensure_ascii=False, separators=(",", ":"), default=DefaultJSONProvider.default
        ).encode

    def dumps(self, obj: Any, **options: Any) -> str:
        """Encode an object; options other than `separators` need a separate encoder."""
        if options.keys() - {"separators"}:
            return super().dumps(obj, **options)
        return self._encode(obj)


class LazyCommands(AppGroup):
    """The flask commands, which are added at their first use: a server process needs none."""

    def __init__(self, name: str, add_commands: Callable[[], None]) -> None:
        super().__init__(name)
        self._load = cache(add_commands)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        self._load()
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command with this name."""
        self._load()
        return super().get_command(ctx, cmd_name)


class LazyModule(ModuleType):
    """Stands for a module that most processes do not need, and imports it at its first use.

    Type checkers see the module itself, because the name is imported under TYPE_CHECKING
    (docs/decisions/022-lazy-imports.md).
    """

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the module."""
        return getattr(import_module(self.__name__), name)


class LazyExtension:
    """Takes the place of an extension in `app.extensions`, and initialises it at its first use."""

    def __init__(self, app: Flask, name: str, init_app: Callable[[Flask], None]) -> None:
        self._app, self._name, self._init_app = app, name, init_app

    def __getattr__(self, attribute: str) -> Any:
        """Return an attribute of the extension, which replaces this object."""
        self._init_app(self._app)
        return getattr(self._app.extensions[self._name], attribute)


class LeanResponse(Response):
    """A response with `constant_headers`, which are added without Werkzeug's checks (20 µs)."""

    constant_headers: Sequence[tuple[str, str]] = ()

    def get_wsgi_response(
        self, environ: WSGIEnvironment
    ) -> tuple[Iterable[bytes], str, list[tuple[str, str]]]:
        """Return the response's body, status and headers."""
        body, status, headers = super().get_wsgi_response(environ)
        return body, status, [*headers, *self.constant_headers]


class LeanFlask(Flask):
    """The app's Flask class; its views and hooks are plain functions, not coroutines."""

    json_provider_class = CompactJson
    response_class = LeanResponse

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.session_interface = LazySessionInterface()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function unchanged, without checking at each call for a coroutine."""
        return func
