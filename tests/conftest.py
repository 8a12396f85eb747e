"""Fixtures: real PostgreSQL and Redis servers, a savepoint for each test, clients and users."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from redis import StrictRedis
from sqlalchemy import make_url, text
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from app import create_app
from core.config import Config
from core.database import cache, db
from dev import postgres
from dev.databases import UNLIMITED, connect_to
from dev.fake_clerk import DevIdentityProvider, DevUser
from dev.servers import Postgres, Redis, start_redis
from models import Mentorado, User
from models.mentorado import Turma
from models.user import Role
from tests.support.concurrency import Clock
from tests.support.types import Browser, Sign
from tests.support.users import ALICE, CHARLIE
from web.services import EXTENSION, Services


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still until it is moved."""
    return Clock()


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of this test process, gone at the end with all that was made in it."""
    folder = tmp_path_factory.mktemp("postgres")
    server = Postgres(postgres.start(folder), folder)
    yield server.url
    server.crash()  # or it would write everything to the disk before it is thrown away
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def new_database(server_url: str) -> Callable[[str], str]:
    """Makes an empty database of that name and returns its URL."""

    def make(name: str) -> str:
        _run_alone(server_url, f'CREATE DATABASE "{name}"')
        return make_url(server_url).set(database=name).render_as_string(hide_password=False)

    return make


@pytest.fixture(scope="session")
def template_url(
    new_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> str:
    """A migrated, empty database that others are copied from."""
    url = new_database("template")
    app = create_app(Config(instance_path=tmp_path_factory.mktemp("setup"), database_url=url))
    with app.app_context():
        upgrade()
        db.engine.dispose()
    return url


@pytest.fixture(scope="session")
def copy_database(server_url: str, template_url: str) -> Callable[[str], str]:
    """Makes a migrated database of that name, for tests that commit."""

    def make(name: str) -> str:
        _run_alone(server_url, f'CREATE DATABASE "{name}" TEMPLATE template')
        return make_url(template_url).set(database=name).render_as_string(hide_password=False)

    return make


@pytest.fixture(scope="session")
def app(
    copy_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Flask]:
    """The app on a database of its own, with the stand-in for Clerk and a fixed clock."""
    config = Config(
        instance_path=tmp_path_factory.mktemp("instance"),
        database_url=copy_database("web"),
        **UNLIMITED,
    )
    app = create_app(config)
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def connection(app: Flask) -> Iterator[Connection]:
    """The one connection of a test: whatever the code commits on it is gone afterwards."""
    with app.app_context():
        engines = cast(dict[str | None, Any], db.engines)
        engine = engines[None]
        with engine.connect() as connection, connection.begin() as outer:
            # Flask-SQLAlchemy asks db.engines and ignores a bind, so the connection goes in there.
            engines[None] = connection
            cache.clear()
            app.extensions[EXTENSION].provisioning.contexts.forget_versions()
            app.extensions[EXTENSION].backlog.renew()
            try:
                yield connection
            finally:
                engines[None] = engine
                outer.rollback()


@pytest.fixture
def session(connection: Connection) -> Iterator[Session]:
    """A session inside the test's transaction."""
    with Session(connection, join_transaction_mode="create_savepoint") as session:
        yield session


@pytest.fixture
def services(app: Flask) -> Services:
    """The parts of the app under test."""
    found = app.extensions[EXTENSION]
    assert isinstance(found, Services)
    return found


@pytest.fixture
def provider(services: Services) -> DevIdentityProvider:
    """The stand-in for Clerk, to sign tokens with."""
    assert services.dev_provider is not None
    return services.dev_provider


@pytest.fixture
def sign(provider: DevIdentityProvider) -> Sign:
    """The request headers of a person's API client."""
    return lambda person: {"Authorization": f"Bearer {provider.token(person)}"}


@pytest.fixture
def client(app: Flask, connection: Connection) -> FlaskClient:
    """A client of the app, inside the test's transaction."""
    return app.test_client()


@pytest.fixture
def browser_of(app: Flask, connection: Connection, provider: DevIdentityProvider) -> Browser:
    """A client that carries a person's session cookie, as a browser would."""

    def make(person: DevUser) -> FlaskClient:
        client = app.test_client()
        client.set_cookie("__session", provider.token(person))
        return client

    return make


@pytest.fixture
def alice(session: Session) -> Mentorado:
    """Alice's profile, owned and edited by hand."""
    user = User(clerk_id=ALICE.clerk_id, name=ALICE.name, email=ALICE.email, email_verified=True)
    session.add(user)
    session.flush()  # her profile needs the id
    profile = Mentorado(
        user_id=user.id, nome_completo="Alice Prado", email=ALICE.email, turma=Turma.NEON
    )
    session.add(profile)
    session.commit()
    return profile


@pytest.fixture
def charlie(session: Session) -> DevUser:
    """Charlie, who has been made an admin."""
    session.add(User(clerk_id=CHARLIE.clerk_id, role=Role.ADMIN))
    session.commit()
    return CHARLIE


@pytest.fixture
def admin(charlie: DevUser, sign: Sign) -> dict[str, str]:
    """The headers of an admin's program."""
    return sign(charlie)


@pytest.fixture
def console(charlie: DevUser, browser_of: Browser) -> FlaskClient:
    """The browser of an admin."""
    return browser_of(charlie)


@pytest.fixture
def redis(redis_server: Redis) -> Redis:
    """A real Redis, empty: what another test's database knew must not be believed here."""
    with StrictRedis.from_url(redis_server.url) as store:
        store.flushall()
    return redis_server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """The Redis server of this test process."""
    with start_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


def _run_alone(url: str, statement: str) -> None:
    with connect_to(url) as connection:
        connection.execute(text(statement))
