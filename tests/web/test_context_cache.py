"""The session cache: spares the question, never answers it wrongly."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, event, func, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from context_cache import ContextCache, LastGood, fingerprint
from extensions import cache
from generations import SMALLEST_START
from house import House
from identity.people import identity_of
from identity.tokens import SessionClaims
from metrics import OURS
from models import Mentorado, User
from session_context import Context, mentorado_shape
from tests.cast import ALICE, BOB, NOW, identity
from tests.crowding import Clock, Meddled
from tests.fixtures import Sign
from tests.serving import eventually

SELF = identity(ALICE)
DELETION = 3  # of the times a debt is looked for: first it is owed, then compared


@pytest.fixture
def statements(connection: Connection) -> Iterator[list[str]]:
    """Every statement that reaches the database."""
    seen: list[str] = []

    def note(_c: object, _k: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)


@pytest.fixture
def contexts(house: House, connection: Connection) -> ContextCache:
    """The cache of the app under test, empty."""
    return house.guarantee.contexts


@pytest.fixture
def alices_context(alice: Mentorado) -> Context:
    """What her requests carry along."""
    user = {"id": 1, "clerk_id": ALICE.clerk_id, "name": None, "email": None, "role": "user"}
    return Context(user, mentorado_shape(alice), "ready")  # type: ignore[arg-type] # a UserShape


def test_second_request_asks_the_database_nothing(
    client: FlaskClient, alice: Mentorado, sign: Sign, statements: list[str]
) -> None:
    client.get("/api/auth/me", headers=sign(ALICE))
    statements.clear()

    answer = client.get("/api/auth/me", headers=sign(ALICE))

    assert (answer.status_code, statements) == (200, [])


def test_cached_and_uncached_answers_are_the_same(
    client: FlaskClient, alice: Mentorado, sign: Sign
) -> None:
    first = client.get("/api/auth/me", headers=sign(ALICE)).json

    assert client.get("/api/auth/me", headers=sign(ALICE)).json == first


def test_renewal_sends_the_next_request_to_the_database(
    client: FlaskClient, session: Session, alice: Mentorado, sign: Sign, contexts: ContextCache
) -> None:
    client.get("/api/auth/me", headers=sign(ALICE))
    alice.nome_completo = "Alice Nova"
    session.commit()
    contexts.renew(ALICE.clerk_id)

    me = client.get("/api/mentorados/me", headers=sign(ALICE)).json

    assert me is not None
    assert me["nome_completo"] == "Alice Nova"


def test_late_fill_of_a_slow_reader_lands_on_a_dead_key(
    contexts: ContextCache, alices_context: Context
) -> None:
    slow = contexts.look_up(SELF)
    contexts.renew(ALICE.clerk_id)  # a change is committed while the reader is on its way

    contexts.keep(SELF, replace(alices_context, generation=slow.generation))

    assert contexts.look_up(SELF).context is None


def test_change_that_nobody_overtook_may_keep_what_it_read(contexts: ContextCache) -> None:
    before = contexts.generations.of(ALICE.clerk_id)

    moved = contexts.generations.move_on(ALICE.clerk_id, since=before)

    assert moved == contexts.generations.of(ALICE.clerk_id)


def test_change_that_was_overtaken_keeps_nothing(
    contexts: ContextCache, alices_context: Context
) -> None:
    before = contexts.generations.of(ALICE.clerk_id)
    contexts.renew(ALICE.clerk_id)  # another change, committed and told in the meantime

    moved = contexts.generations.move_on(ALICE.clerk_id, since=before)
    contexts.keep(SELF, replace(alices_context, generation=moved))

    assert (moved, contexts.look_up(SELF).context) == (None, None)


def test_lost_generation_starts_far_from_where_it_was(contexts: ContextCache) -> None:
    before = contexts.generations.of(ALICE.clerk_id)
    cache.clear()

    contexts.renew(ALICE.clerk_id)

    after = contexts.generations.of(ALICE.clerk_id) or 0
    assert after >= SMALLEST_START
    assert after not in (before, (before or 0) + 1)


def test_new_claims_in_the_token_pass_the_cache_by(
    client: FlaskClient, alice: Mentorado, sign: Sign, statements: list[str]
) -> None:
    client.get("/api/auth/me", headers=sign(ALICE))
    statements.clear()

    client.get("/api/auth/me", headers=sign(replace(ALICE, email_verified=False)))

    assert statements != []


def plant_entry_without_mentorado(contexts: ContextCache) -> None:
    generation = contexts.generations.of(BOB.clerk_id)
    who = identity_of(SessionClaims(BOB.clerk_id, asdict(BOB)))
    said = fingerprint(contexts.edition, who)
    entry = {"generation": generation, "identity": said, "user": {"id": 7}}
    cache.set(f"context:{BOB.clerk_id}", json.dumps(entry))


def test_hit_without_mentorado_heals_itself(
    client: FlaskClient, session: Session, sign: Sign, contexts: ContextCache
) -> None:
    plant_entry_without_mentorado(contexts)

    answer = client.get("/api/mentorados/me", headers=sign(BOB))

    assert answer.status_code == 200
    assert session.scalars(select(func.count()).select_from(Mentorado)).one() == 1


def test_hit_without_mentorado_is_logged(
    client: FlaskClient, sign: Sign, contexts: ContextCache
) -> None:
    plant_entry_without_mentorado(contexts)

    with capture_logs() as logs:
        client.get("/api/mentorados/me", headers=sign(BOB))

    assert "cache_hit_no_mentorado" in [line["event"] for line in logs]


@pytest.mark.parametrize("garbage", ["{", "[]", '"text"', '{"generation": 1}'])
def test_garbage_in_the_cache_is_as_good_as_nothing(
    client: FlaskClient, alice: Mentorado, sign: Sign, garbage: str
) -> None:
    cache.set(f"context:{ALICE.clerk_id}", garbage)

    assert client.get("/api/mentorados/me", headers=sign(ALICE)).status_code == 200


def test_absence_is_never_cached(client: FlaskClient, session: Session, sign: Sign) -> None:
    session.add(User(clerk_id=BOB.clerk_id, role="admin"))
    session.commit()

    client.get("/api/auth/me", headers=sign(BOB))

    assert cache.get(f"context:{BOB.clerk_id}") is None


def test_what_was_seen_last_is_kept_until_something_changes(
    contexts: ContextCache, alices_context: Context
) -> None:
    generation = contexts.generations.of(ALICE.clerk_id)
    contexts.keep_last_good(replace(alices_context, generation=generation), "numbers")
    before = contexts.last_good(ALICE.clerk_id)

    contexts.renew(ALICE.clerk_id)  # she has been blocked, say

    assert before == LastGood(alices_context, "numbers")
    assert contexts.last_good(ALICE.clerk_id) is None


def test_what_was_seen_last_ends_when_its_person_is_denied(
    client: FlaskClient, session: Session, alice: Mentorado, sign: Sign, contexts: ContextCache
) -> None:
    client.get("/dashboard", headers=sign(ALICE))
    session.execute(update(User).values(blocked_at=NOW))  # by a process of another cache
    session.commit()
    cache.delete(f"context:{ALICE.clerk_id}")  # its time is over

    answer = client.get("/dashboard", headers=sign(ALICE))

    assert (answer.status_code, contexts.last_good(ALICE.clerk_id)) == (403, None)


@pytest.fixture
def clock(contexts: ContextCache, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(contexts.generations, "clock", clock)
    monkeypatch.setattr(contexts.generations, "_silent_until", 0.0)
    return clock


@pytest.fixture
def breakdown(clock: Clock) -> Iterator[pytest.MonkeyPatch]:
    """The cache refuses everything, until this is undone."""

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError

    with pytest.MonkeyPatch.context() as patch:
        for call in ("get", "get_many", "set", "add"):
            patch.setattr(cache, call, refuse)
        patch.setattr(cache.cache, "inc", refuse)
        yield patch


@pytest.mark.usefixtures("breakdown")
def test_broken_cache_changes_no_answer(client: FlaskClient, alice: Mentorado, sign: Sign) -> None:
    assert client.get("/api/mentorados/me", headers=sign(ALICE)).status_code == 200


@pytest.mark.usefixtures("breakdown")
def test_broken_cache_is_left_alone_for_a_moment(contexts: ContextCache) -> None:
    with capture_logs() as logs:
        contexts.look_up(SELF)
        contexts.look_up(SELF)

    assert [line["event"] for line in logs] == ["cache_error"]


def test_change_that_the_cache_missed_is_told_when_it_is_back(
    contexts: ContextCache, clock: Clock, alices_context: Context
) -> None:
    generation = contexts.generations.of(ALICE.clerk_id)
    contexts.keep(SELF, replace(alices_context, generation=generation))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contexts.generations, "_silent_until", clock.seconds + 1)
        contexts.renew(ALICE.clerk_id)

    found = contexts.look_up(SELF).context

    assert (found, contexts.generations.owed) == (None, {})


@pytest.mark.parametrize(("meddling", "owed"), [("settle", 0), ("owe", 1)])
def test_debt_is_settled_by_one_and_a_new_one_stays(
    app: Flask, contexts: ContextCache, clock: Clock, meddling: str, owed: int
) -> None:
    generations = contexts.generations

    def settle() -> None:
        with app.app_context():
            generations.settle()

    def owe() -> None:
        with app.app_context(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(generations, "_silent_until", clock.seconds + 1)
            generations.move_on(ALICE.clerk_id)

    meddle = {"settle": settle, "owe": owe}[meddling]
    generations.owed[Meddled(ALICE.clerk_id, at=DELETION, meddle=meddle)] = object()
    settle()

    assert eventually(lambda: len(generations.owed) == owed)


def test_nothing_is_believed_of_a_person_whose_change_is_owed(
    contexts: ContextCache, alices_context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = contexts.generations.of(ALICE.clerk_id)
    contexts.keep(SELF, replace(alices_context, generation=generation))
    monkeypatch.setitem(contexts.generations.owed, ALICE.clerk_id, object())
    monkeypatch.setattr("generations.SETTLED_AT_ONCE", 0)

    assert contexts.look_up(SELF).context is None


def test_profile_deleted_behind_the_cache_is_made_anew(
    client: FlaskClient, session: Session, alice: Mentorado, sign: Sign
) -> None:
    client.get("/api/auth/me", headers=sign(ALICE))
    old_id = alice.id
    session.delete(alice)
    session.commit()

    answer = client.get("/api/mentorados/me/overview", headers=sign(ALICE))

    assert answer.status_code == 200
    assert session.scalars(select(Mentorado.id)).one() != old_id


@pytest.mark.parametrize("result", ["hit", "miss"])
def test_questions_to_the_cache_are_counted(client: FlaskClient, sign: Sign, result: str) -> None:
    before = OURS.get_sample_value("session_cache_requests_total", {"result": result})

    for _ in range(2):
        client.get("/api/auth/me", headers=sign(BOB))

    after = OURS.get_sample_value("session_cache_requests_total", {"result": result})
    assert (after or 0) - (before or 0) == 1
