"""Fixtures: real PostgreSQL and Redis servers, a savepoint for each test, clients and users."""

import gc
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import structlog
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from redis import StrictRedis
from sqlalchemy import make_url, text
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session
from structlog.dev import ConsoleRenderer, plain_traceback

from app import create_app
from benchmarks.databases import connect_to
from benchmarks.servers import PostgresServer, RedisServer, start_postgres, start_redis
from core import deadlines
from core.config import Config
from core.database import cache, db
from dev import postgres
from dev.fake_clerk import DevIdentityProvider, DevUser
from models import Feedback, Mentorado, MetricaMensal, User
from models.people import Role, Turma
from tests.support.apps import UNLIMITED, create_app_on
from tests.support.concurrency import Clock
from tests.support.databases import new_server_folder, use_fast_settings
from tests.support.time_limits import TIME_LIMIT_SCALE
from tests.support.types import Browser, Sign
from tests.support.users import ALICE, CHARLIE
from web.services import EXTENSION, Services

# structlog's own tracebacks have the values of all variables and take a second each.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        ConsoleRenderer(exception_formatter=plain_traceback),
    ]
)
gc.disable()  # until all tests are collected: collections of a growing heap take a quarter of that


def pytest_collection_finish() -> None:
    """Turn the garbage collector on; what is loaded by now stays, so it need not be scanned."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def time_limits(request: pytest.FixtureRequest) -> Iterator[None]:
    """Longer time limits inside this process, because a busy machine may stop it for seconds.

    A test of the limits themselves is marked with `real_time_limits`.
    """
    is_real = request.node.get_closest_marker("real_time_limits")
    deadlines.set_scale(1.0 if is_real else TIME_LIMIT_SCALE)
    yield
    deadlines.set_scale(1.0)


@pytest.fixture
def clock() -> Clock:
    """A clock that a test advances."""
    return Clock()


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of this test process; it is deleted at the end."""
    folder = new_server_folder(tmp_path_factory)
    server = PostgresServer(postgres.start(folder), folder)
    use_fast_settings(server.url)
    yield server.url
    server.crash()  # a regular stop would write everything to disk first
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def migrated_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a stopped PostgreSQL server whose database is migrated and empty."""
    folder = tmp_path_factory.mktemp("migrated")
    with start_postgres(folder) as server:
        use_fast_settings(server.url)
        with create_app_on(folder, server.url):
            upgrade()
    return folder / "postgres"


@pytest.fixture(scope="session")
def new_database(server_url: str) -> Callable[[str], str]:
    """Return a function that creates an empty database and returns its URL."""

    def make(name: str) -> str:
        _run_alone(server_url, f'CREATE DATABASE "{name}"')
        return make_url(server_url).set(database=name).render_as_string(hide_password=False)

    return make


@pytest.fixture(scope="session")
def template_url(
    new_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> str:
    """A migrated, empty database, the template of others."""
    url = new_database("template")
    app = create_app(Config(instance_path=tmp_path_factory.mktemp("setup"), database_url=url))
    with app.app_context():
        upgrade()
        db.engine.dispose()
    return url


@pytest.fixture(scope="session")
def clone_database(server_url: str) -> Callable[[str, str], str]:
    """Return a function that creates a copy of a database without connections.

    A name that was used before gets a number: pytest-xdist may set up the fixtures of a module
    twice in a process.
    """
    uses = Counter[str]()

    def make(original_url: str, name: str) -> str:
        unique = f"{name}_{uses[name]}" if uses[name] else name
        uses[name] += 1
        original = make_url(original_url)
        _run_alone(server_url, f'CREATE DATABASE "{unique}" TEMPLATE "{original.database}"')
        return original.set(database=unique).render_as_string(hide_password=False)

    return make


@pytest.fixture(scope="session")
def copy_database(
    clone_database: Callable[[str, str], str], template_url: str
) -> Callable[[str], str]:
    """Return a function that creates a migrated database, for tests that commit."""
    return partial(clone_database, template_url)


@pytest.fixture
def url(copy_database: Callable[[str], str], tmp_path: Path) -> str:
    """The URL of a migrated database for one test that commits."""
    return copy_database(f"own_{tmp_path.name}")


@pytest.fixture(scope="session")
def app(
    copy_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Flask]:
    """The app with a database of its own, a development identity provider and no limits."""
    config = Config(
        instance_path=tmp_path_factory.mktemp("instance"),
        database_url=copy_database("web"),
        database_idle_seconds=0,  # a reading of an idle app would be that of an earlier test
        **UNLIMITED,
    )
    app = create_app(config)
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def connection(app: Flask) -> Iterator[Connection]:
    """The connection of a test; its transaction is rolled back at the end, commits included."""
    with app.app_context():
        engines = cast(dict[str | None, Any], db.engines)
        engine = engines[None]
        with engine.connect() as connection, connection.begin() as transaction:
            # Flask-SQLAlchemy reads db.engines and ignores a bind, so the connection is set there.
            engines[None] = connection
            cache.clear()
            app.extensions[EXTENSION].provisioning.contexts.clear_versions()
            app.extensions[EXTENSION].backlog.invalidate()
            try:
                yield connection
            finally:
                engines[None] = engine
                transaction.rollback()


@pytest.fixture
def session(connection: Connection) -> Iterator[Session]:
    """A session inside the test's transaction."""
    with Session(connection, join_transaction_mode="create_savepoint") as session:
        yield session


@pytest.fixture
def services(app: Flask) -> Services:
    """The services of the app under test."""
    extension = app.extensions[EXTENSION]
    assert isinstance(extension, Services)
    return extension


@pytest.fixture
def provider(services: Services) -> DevIdentityProvider:
    """The development identity provider, to sign tokens."""
    assert services.dev_provider is not None
    return services.dev_provider


@pytest.fixture
def sign(provider: DevIdentityProvider) -> Sign:
    """Return a function that returns the request headers of a user's API client."""
    return lambda user: {"Authorization": f"Bearer {provider.token(user)}"}


@pytest.fixture
def client(app: Flask, connection: Connection) -> FlaskClient:
    """A client of the app, inside the test's transaction."""
    return app.test_client()


@pytest.fixture
def browser_of(app: Flask, connection: Connection, provider: DevIdentityProvider) -> Browser:
    """Return a function that returns a client with a user's session cookie."""

    def make(user: DevUser) -> FlaskClient:
        client = app.test_client()
        client.set_cookie("__session", provider.token(user))
        return client

    return make


@pytest.fixture
def alice(session: Session) -> Mentorado:
    """Alice's profile, owned and edited."""
    user = User(clerk_id=ALICE.clerk_id, name=ALICE.name, email=ALICE.email, email_verified=True)
    session.add(user)
    session.flush()  # the profile needs the id
    profile = Mentorado(
        user_id=user.id, nome_completo="Alice Prado", email=ALICE.email, turma=Turma.NEON
    )
    session.add(profile)
    session.commit()
    return profile


@pytest.fixture
def with_rows(session: Session, alice: Mentorado) -> Mentorado:
    """Alice's profile with eight months and one feedback."""
    texts = dict.fromkeys(("analise_mes", "foco_proximo_mes", "sugestao_mentor"), "Muito bem")
    months = [MetricaMensal(mentorado_id=alice.id, ano=2026, mes=m, leads=m) for m in range(1, 9)]
    session.add_all([*months, Feedback(mentorado_id=alice.id, ano=2026, mes=1, **texts)])
    session.commit()
    return alice


@pytest.fixture
def charlie(session: Session) -> DevUser:
    """Charlie, an admin."""
    session.add(User(clerk_id=CHARLIE.clerk_id, role=Role.ADMIN))
    session.commit()
    return CHARLIE


@pytest.fixture
def admin(charlie: DevUser, sign: Sign) -> dict[str, str]:
    """The request headers of an admin's API client."""
    return sign(charlie)


@pytest.fixture
def console(charlie: DevUser, browser_of: Browser) -> FlaskClient:
    """The browser of an admin."""
    return browser_of(charlie)


@pytest.fixture
def redis(redis_server: RedisServer) -> RedisServer:
    """An empty Redis: versions of another test's database must not be read."""
    with StrictRedis.from_url(redis_server.url) as store:
        store.flushall()
    return redis_server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The Redis server of this test process."""
    with start_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


def _run_alone(url: str, statement: str) -> None:
    with connect_to(url) as connection:
        connection.execute(text(statement))
