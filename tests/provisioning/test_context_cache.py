"""The context cache saves a statement and never returns stale data beyond its limits."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any, cast

import pytest
from flask.testing import FlaskClient
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import Engine, event, func, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from auth.tokens import SessionClaims, identity_from_claims
from benchmarks.servers import free_port
from core.cache import LocalStore, RedisStore, TextSerializer
from core.database import cache
from core.metrics import REGISTRY
from models import Mentorado, User
from provisioning.context import RequestContext, serialize_mentorado
from provisioning.context_cache import CONFIRMED_SECONDS, ContextCache, DashboardCopy, fingerprint
from provisioning.profiles import increment_versions, read_version
from tests.support.concurrency import Clock
from tests.support.types import Sign
from tests.support.users import ALICE, BOB, NOW, identity_of
from web.services import Services

ALICES_IDENTITY = identity_of(ALICE)


@pytest.fixture
def statements(connection: Connection) -> Iterator[list[str]]:
    """All statements that reach the database."""
    seen: list[str] = []

    def record(_c: object, _k: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", record)
    yield seen
    event.remove(Engine, "before_cursor_execute", record)


@pytest.fixture
def contexts(services: Services, connection: Connection) -> ContextCache:
    """The empty cache of the app under test."""
    return services.provisioning.contexts


@pytest.fixture
def clock(contexts: ContextCache, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the cache; a test advances it."""
    clock = Clock()
    monkeypatch.setattr(cast(LocalStore, cache.cache), "clock", clock)
    monkeypatch.setattr(contexts, "clock", clock)
    return clock


@pytest.fixture
def alices_context(session: Session, alice: Mentorado) -> RequestContext:
    """The request context of Alice, with the version of the database."""
    user: Any = {
        "id": alice.user_id,
        "clerk_id": ALICE.clerk_id,
        "name": None,
        "email": None,
        "role": "user",
    }
    version = read_version(session, ALICE.clerk_id)
    return RequestContext(user, serialize_mentorado(alice), "ready", version=version)


def test_second_request_needs_no_statement(
    client: FlaskClient, alice: Mentorado, sign: Sign, statements: list[str]
) -> None:
    client.get("/api/auth/me", headers=sign(ALICE))
    statements.clear()

    response = client.get("/api/auth/me", headers=sign(ALICE))

    assert (response.status_code, statements) == (200, [])


def test_cached_and_uncached_answers_are_the_same(
    client: FlaskClient, alice: Mentorado, sign: Sign
) -> None:
    first = client.get("/api/auth/me", headers=sign(ALICE)).json

    assert client.get("/api/auth/me", headers=sign(ALICE)).json == first


def change_name(session: Session, name: str) -> None:
    """Change the name like another program: without a cache invalidation."""
    session.execute(update(Mentorado).values(nome_completo=name))
    session.commit()


def test_published_change_is_seen_by_the_next_request(
    client: FlaskClient, session: Session, alice: Mentorado, sign: Sign, contexts: ContextCache
) -> None:
    client.get("/api/auth/me", headers=sign(ALICE))
    change_name(session, "Alice Nova")
    contexts.publish([ALICE.clerk_id])

    me = client.get("/api/mentorados/me", headers=sign(ALICE)).json

    assert me is not None
    assert me["nome_completo"] == "Alice Nova"


@pytest.mark.parametrize(("seconds", "name"), [(0.1, "Alice Prado"), (0.0, "Alice Nova")])
def test_unpublished_change_is_seen_when_the_entry_is_confirmed(
    client: FlaskClient,
    session: Session,
    alice: Mentorado,
    sign: Sign,
    clock: Clock,
    seconds: float,
    name: str,
) -> None:
    client.get("/api/auth/me", headers=sign(ALICE))
    change_name(session, "Alice Nova")
    clock.seconds += CONFIRMED_SECONDS - seconds

    me = client.get("/api/mentorados/me", headers=sign(ALICE)).json

    assert me is not None
    assert me["nome_completo"] == name


def test_confirmation_of_an_entry_needs_one_statement(
    client: FlaskClient, alice: Mentorado, sign: Sign, statements: list[str], clock: Clock
) -> None:
    client.get("/api/auth/me", headers=sign(ALICE))
    clock.seconds += CONFIRMED_SECONDS
    statements.clear()

    for _ in range(3):
        client.get("/api/auth/me", headers=sign(ALICE))

    [statement] = [executed for executed in statements if "SAVEPOINT" not in executed]
    assert statement.startswith("SELECT users.context_version")


def test_entry_of_an_older_version_is_not_used(
    contexts: ContextCache, session: Session, alices_context: RequestContext
) -> None:
    increment_versions(session, [alices_context.user["id"] or 0])
    session.commit()
    contexts.publish([ALICE.clerk_id])  # another request commits a change

    contexts.put(ALICES_IDENTITY, alices_context, contexts.clock())

    assert contexts.get(ALICES_IDENTITY) is None


def test_older_entry_does_not_replace_a_newer_one(
    contexts: ContextCache, alices_context: RequestContext, clock: Clock
) -> None:
    newer = replace(alices_context, version=(alices_context.version or 0) + 1)
    contexts.put(ALICES_IDENTITY, newer, clock())

    contexts.put(ALICES_IDENTITY, alices_context, clock())

    assert contexts.get(ALICES_IDENTITY) == newer


def test_entry_of_a_slow_read_is_confirmed(
    contexts: ContextCache, alices_context: RequestContext, clock: Clock, statements: list[str]
) -> None:
    started = clock()
    clock.seconds += CONFIRMED_SECONDS  # as if the process had been stopped
    contexts.put(ALICES_IDENTITY, alices_context, started)

    context = contexts.get(ALICES_IDENTITY)

    assert (context, statements != []) == (alices_context, True)


def test_restored_cache_is_confirmed_against_the_database(
    contexts: ContextCache, session: Session, alices_context: RequestContext, clock: Clock
) -> None:
    contexts.put(ALICES_IDENTITY, alices_context, clock())
    entry = cache.get(f"context:{ALICE.clerk_id}")
    increment_versions(session, [alices_context.user["id"] or 0])
    session.commit()
    cache.clear()
    cache.set(f"context:{ALICE.clerk_id}", entry)  # as if from an old snapshot
    contexts.clear_versions()

    assert contexts.get(ALICES_IDENTITY) is None


@pytest.mark.parametrize("value", [b"!\x80\x04.", object(), {"a": 1}])
def test_cache_in_redis_stores_text_only(value: object) -> None:
    with pytest.raises(TypeError):
        TextSerializer().dumps(value)


def test_new_claims_in_the_token_bypass_the_cache(
    client: FlaskClient, alice: Mentorado, sign: Sign, statements: list[str]
) -> None:
    client.get("/api/auth/me", headers=sign(ALICE))
    statements.clear()

    client.get("/api/auth/me", headers=sign(replace(ALICE, email_verified=False)))

    assert statements != []


def put_entry_without_mentorado(contexts: ContextCache) -> None:
    identity = identity_from_claims(SessionClaims(BOB.clerk_id, asdict(BOB)))
    claims_fingerprint = fingerprint(contexts.rules_key, identity)
    entry = {"version": 1, "identity": claims_fingerprint, "user": {"id": 7}}
    contexts.store.put_version(
        contexts.keys(BOB.clerk_id), 1, confirmed_seconds=5, value=(json.dumps(entry), 60)
    )


def test_hit_without_mentorado_ensures_the_profile(
    client: FlaskClient, session: Session, sign: Sign, contexts: ContextCache
) -> None:
    put_entry_without_mentorado(contexts)

    response = client.get("/api/mentorados/me", headers=sign(BOB))

    assert response.status_code == 200
    assert session.scalars(select(func.count()).select_from(Mentorado)).one() == 1


def test_hit_without_mentorado_is_logged(
    client: FlaskClient, sign: Sign, contexts: ContextCache
) -> None:
    put_entry_without_mentorado(contexts)

    with capture_logs() as logs:
        client.get("/api/mentorados/me", headers=sign(BOB))

    assert "cache_hit_no_mentorado" in [line["event"] for line in logs]


@pytest.mark.parametrize("malformed", ["{", "[]", '"text"', '{"version": 1}', '{"version": "x"}'])
def test_malformed_entry_is_ignored(
    client: FlaskClient, alice: Mentorado, sign: Sign, malformed: str
) -> None:
    cache.set(f"context:{ALICE.clerk_id}", malformed)

    assert client.get("/api/mentorados/me", headers=sign(ALICE)).status_code == 200


def test_missing_profile_is_never_cached(client: FlaskClient, session: Session, sign: Sign) -> None:
    session.add(User(clerk_id=BOB.clerk_id, role="admin"))
    session.commit()

    client.get("/api/auth/me", headers=sign(BOB))

    assert cache.get(f"context:{BOB.clerk_id}") is None


def test_dashboard_copy_is_valid_until_a_newer_version_is_published(
    contexts: ContextCache, alices_context: RequestContext
) -> None:
    contexts.put_dashboard_copy(alices_context, "numbers")
    before = contexts.get_dashboard_copy(ALICE.clerk_id)

    contexts.publish_versions({ALICE.clerk_id: (alices_context.version or 0) + 1})

    assert before == DashboardCopy(replace(alices_context, version=None), "numbers")
    assert contexts.get_dashboard_copy(ALICE.clerk_id) is None


def test_dashboard_copy_grants_no_role(
    contexts: ContextCache, alices_context: RequestContext
) -> None:
    admin: Any = {**alices_context.user, "role": "admin"}
    contexts.put_dashboard_copy(replace(alices_context, user=admin), "numbers")

    copy = contexts.get_dashboard_copy(ALICE.clerk_id)

    assert copy is not None
    assert copy.context.user["role"] == "user"


def test_dashboard_copy_of_a_lost_version_is_not_used(
    contexts: ContextCache, alices_context: RequestContext
) -> None:
    contexts.put_dashboard_copy(alices_context, "numbers")
    copy = cache.get(f"dashboard_copy:{ALICE.clerk_id}")
    cache.clear()
    cache.set(f"dashboard_copy:{ALICE.clerk_id}", copy)
    contexts.clear_versions()

    assert contexts.get_dashboard_copy(ALICE.clerk_id) is None


def test_dashboard_copy_is_valid_longer_than_the_context(
    contexts: ContextCache, alices_context: RequestContext, clock: Clock
) -> None:
    contexts.put_dashboard_copy(alices_context, "numbers")
    clock.seconds += 20 * 3600

    assert contexts.get_dashboard_copy(ALICE.clerk_id) is not None


def test_dashboard_copy_is_deleted_when_its_user_is_denied(
    client: FlaskClient,
    session: Session,
    alice: Mentorado,
    sign: Sign,
    contexts: ContextCache,
    clock: Clock,
) -> None:
    client.get("/dashboard", headers=sign(ALICE))
    session.execute(update(User).values(blocked_at=NOW))  # by a process with another cache
    session.commit()
    clock.seconds += CONFIRMED_SECONDS

    response = client.get("/dashboard", headers=sign(ALICE))

    assert (response.status_code, contexts.get_dashboard_copy(ALICE.clerk_id)) == (403, None)


@pytest.fixture
def broken_cache(contexts: ContextCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache of the app is a Redis that does not answer."""
    nothing = RedisStore(Redis(port=free_port(), retry=Retry(NoBackoff(), 0)))
    monkeypatch.setattr(contexts, "store", nothing)


@pytest.mark.usefixtures("broken_cache")
def test_broken_cache_changes_no_response(
    client: FlaskClient, alice: Mentorado, sign: Sign
) -> None:
    assert client.get("/api/mentorados/me", headers=sign(ALICE)).status_code == 200


@pytest.mark.usefixtures("alice", "broken_cache")
def test_publishing_to_a_broken_cache_is_reported(contexts: ContextCache) -> None:
    assert not contexts.publish([ALICE.clerk_id])


def test_change_of_this_process_is_effective_despite_a_cache_failure(
    contexts: ContextCache, alices_context: RequestContext, clock: Clock
) -> None:
    contexts.put(ALICES_IDENTITY, alices_context, clock())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            contexts, "store", RedisStore(Redis(port=free_port(), retry=Retry(NoBackoff(), 0)))
        )
        contexts.publish_versions({ALICE.clerk_id: (alices_context.version or 0) + 1})

    assert contexts.get(ALICES_IDENTITY) is None


def test_profile_deleted_without_invalidation_is_created_again(
    client: FlaskClient, session: Session, alice: Mentorado, sign: Sign
) -> None:
    client.get("/api/auth/me", headers=sign(ALICE))
    old_id = alice.id
    session.delete(alice)
    session.commit()

    response = client.get("/api/mentorados/me/overview", headers=sign(ALICE))

    assert response.status_code == 200
    assert session.scalars(select(Mentorado.id)).one() != old_id


@pytest.mark.parametrize("result", ["hit", "miss"])
def test_cache_requests_are_counted(client: FlaskClient, sign: Sign, result: str) -> None:
    before = REGISTRY.get_sample_value("session_cache_requests_total", {"result": result})

    for _ in range(2):
        client.get("/api/auth/me", headers=sign(BOB))

    after = REGISTRY.get_sample_value("session_cache_requests_total", {"result": result})
    assert (after or 0) - (before or 0) == 1
