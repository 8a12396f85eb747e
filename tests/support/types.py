"""The types of what the fixtures hand out."""

from collections.abc import Callable

from flask.testing import FlaskClient

from dev.fake_clerk import Person

Sign = Callable[[Person], dict[str, str]]
Browser = Callable[[Person], FlaskClient]
