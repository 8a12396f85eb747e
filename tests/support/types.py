"""Types of the fixtures."""

from collections.abc import Callable

from flask.testing import FlaskClient

from dev.fake_clerk import DevUser

Sign = Callable[[DevUser], dict[str, str]]
Browser = Callable[[DevUser], FlaskClient]
